{{/*
What a schema cannot say: values that contradict each other, the cluster, or the rules of Kubernetes. Each is refused in a sentence,
before anything reaches the cluster, as an upgrade that the cluster refuses half-way has changed the other half.
*/}}
{{- define "onstage.validate" -}}
{{- include "onstage.checkTexts" . -}}
{{- include "onstage.checkNumbers" . -}}
{{- include "onstage.checkLabels" . -}}
{{- include "onstage.checkConfig" . -}}
{{- include "onstage.checkPorts" . -}}
{{- include "onstage.checkTls" . -}}
{{- include "onstage.checkModels" . -}}
{{- include "onstage.checkScaling" . -}}
{{- include "onstage.checkRollout" . -}}
{{- include "onstage.checkVolumes" . -}}
{{- include "onstage.checkContainers" . -}}
{{- include "onstage.checkPlacement" . -}}
{{- include "onstage.checkRoutes" . -}}
{{- include "onstage.checkMonitors" . -}}
{{- end -}}

{{/* `names` must differ; `what` is the beginning of a sentence. */}}
{{- define "onstage.unique" -}}
{{- $what := .what -}}
{{- $seen := dict -}}
{{- range .names -}}
{{- if hasKey $seen . -}}{{- fail (printf "%s `%s` is there twice" $what .) -}}{{- end -}}
{{- $_ := set $seen . true -}}
{{- end -}}
{{- end -}}

{{/* Requests above limits, and resources that cannot be shared. */}}
{{- define "onstage.checkNumbers" -}}
{{- $all := dict "resources" .Values.resources "tests.resources" .Values.tests.resources -}}
{{- range $list := list "extraContainers" "extraInitContainers" -}}
{{- range $index, $container := default list (get $.Values $list) -}}
{{- if $container.resources -}}{{- $_ := set $all (printf "%s[%d].resources" $list $index) $container.resources -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $path, $resources := $all -}}
{{- $requests := default dict $resources.requests -}}
{{- $limits := default dict $resources.limits -}}
{{- range $name, $request := $requests -}}
{{- $limit := get $limits $name -}}
{{- if and (hasKey $limits $name) (gt (include "onstage.thousandths" $request | float64) (include "onstage.thousandths" $limit | float64)) -}}
{{- fail (printf "`%s.requests.%s` is %s, more than `%s.limits.%s`, which is %s" $path $name (include "onstage.quantity" $request) $path $name (include "onstage.quantity" $limit)) -}}
{{- end -}}
{{- $isShared := or (has $name (list "cpu" "memory" "ephemeral-storage")) (contains "kubernetes.io/" $name) -}}
{{- if and (not $isShared) (ne (include "onstage.thousandths" $request) (include "onstage.thousandths" (default "0" $limit))) -}}
{{- fail (printf "`%s.requests.%s` is %s, but such a resource cannot be overcommitted: `%s.limits.%s` must be equal" $path $name (include "onstage.quantity" $request) $path $name) -}}
{{- end -}}
{{- end -}}
{{- range $half, $amounts := dict "requests" $requests "limits" $limits -}}
{{- range $name, $amount := $amounts -}}
{{- $isKnown := or (has $name (list "cpu" "memory" "ephemeral-storage")) (hasPrefix "hugepages-" $name) (contains "/" $name) -}}
{{- if not $isKnown -}}
{{- fail (printf "`%s.%s` has `%s`, which is no resource of a container: expected `cpu`, `memory`, `ephemeral-storage`, `hugepages-…` or a name with a domain, such as `nvidia.com/gpu`" $path $half $name) -}}
{{- end -}}
{{- $isWhole := eq (mod (include "onstage.thousandths" $amount | float64 | int64) 1000) 0 -}}
{{- if and (or (contains "/" $name) (hasPrefix "hugepages-" $name)) (not $isWhole) -}}
{{- fail (printf "`%s.%s.%s` is %s, expected a whole number" $path $half $name (include "onstage.quantity" $amount)) -}}
{{- end -}}
{{- if and (hasPrefix "hugepages-" $name) (not (or $requests.cpu $requests.memory $limits.cpu $limits.memory)) -}}
{{- fail (printf "`%s.%s.%s` needs a request or limit of `cpu` or `memory` too" $path $half $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels by which Kubernetes, Helm and this chart find objects. */}}
{{- define "onstage.checkLabels" -}}
{{- $ours := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" "app.kubernetes.io/version" "helm.sh/chart" "onstage/headless" "pod-template-hash" -}}
{{- $metrics := .Values.metrics -}}
{{- range $path, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "metrics.serviceMonitor.labels" $metrics.serviceMonitor.labels "metrics.podMonitor.labels" $metrics.podMonitor.labels "metrics.prometheusRule.labels" $metrics.prometheusRule.labels "metrics.dashboard.labels" $metrics.dashboard.labels -}}
{{- range $key, $_ := $labels -}}
{{- if has $key $ours -}}
{{- fail (printf "`%s` has the key `%s`, which the chart sets, as objects are found by it: take another key" $path $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey (default dict .Values.podAnnotations) "onstage/config" -}}
{{- fail "`podAnnotations` has the key `onstage/config`, which the chart sets: it is the configuration of the pod" -}}
{{- end -}}
{{- $config := include "onstage.config" . -}}
{{- if gt (len $config) 102400 -}}
{{- fail (printf "`config` is %d bytes long as a file, more than 102400, as it travels in an annotation of the pods: put long lists into a file of their own (`secretMounts`, `extraVolumes`)" (len $config)) -}}
{{- end -}}
{{- range $path, $annotations := dict "podAnnotations" .Values.podAnnotations "deployment.annotations" .Values.deployment.annotations "service.annotations" .Values.service.annotations "serviceAccount.annotations" .Values.serviceAccount.annotations "ingress.annotations" .Values.ingress.annotations "httpRoute.annotations" .Values.httpRoute.annotations "metrics.dashboard.annotations" $metrics.dashboard.annotations -}}
{{- $size := ternary (len $config) 0 (eq $path "podAnnotations") -}}
{{- range $key, $value := $annotations -}}{{- $size = add $size (len $key) (len $value) -}}{{- end -}}
{{- if gt (int64 $size) 250000 -}}
{{- fail (printf "`%s` is %d bytes long, more than 250000: Kubernetes takes at most 256 KiB of annotations" $path $size) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Keys and flags that the chart writes itself. */}}
{{- define "onstage.checkConfig" -}}
{{- $server := dig "server" dict .Values.config -}}
{{- range $key, $other := dict "shutdown_delay" "shutdown.delaySeconds" "drain_timeout" "shutdown.drainSeconds" "admin_port" "admin.port" "admin_token_file" "admin.tokenSecret" -}}
{{- if hasKey $server $key -}}
{{- fail (printf "`config.server.%s` is written by the chart: set `%s` instead" $key $other) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $server "host") (ne (toString $server.host) "0.0.0.0") -}}
{{- fail "`config.server.host` is `0.0.0.0` in a pod, else nobody reaches it: leave it out" -}}
{{- end -}}
{{- range $key, $other := dict "cache_dir" "cache" "webhook_secret_file" "registry.webhookSecret" -}}
{{- if hasKey (dig "registry" dict $.Values.config) $key -}}
{{- fail (printf "`config.registry.%s` is written by the chart: set `%s` instead" $key $other) -}}
{{- end -}}
{{- end -}}
{{- $written := dict "config" "config" "host" "config.server" "port" "config.server.port" "http-port" "config.server.port" "grpc-port" "config.server.grpc_port" "no-grpc" "config.server.grpc_port" "base-path" "config.server.base_path" "admin-port" "admin.port" "admin-token-file" "admin.tokenSecret" "shutdown-delay" "shutdown.delaySeconds" "drain-timeout" "shutdown.drainSeconds" "cache-dir" "cache" "webhook-secret-file" "registry.webhookSecret" "tls-cert-file" "config.server.tls" "tls-client-auth" "config.server.tls" -}}
{{- range $index, $argument := .Values.extraArgs -}}
{{- $flag := first (splitList "=" $argument) -}}
{{- if and (hasPrefix "--" $flag) (hasKey $written (trimPrefix "--" $flag)) -}}
{{- fail (printf "`extraArgs[%d]` is `%s`, which ports, probes and volumes depend on: set `%s` instead" $index $flag (get $written (trimPrefix "--" $flag))) -}}
{{- end -}}
{{- end -}}
{{/* TLS may come from the environment, beside `probes.scheme`. */}}
{{- range $index, $variable := .Values.extraEnv -}}
{{- $key := regexReplaceAll "^ONSTAGE_(SERVER|REGISTRY)__([A-Z_]+)$" $variable.name "${2}" | lower | replace "_" "-" -}}
{{- if and (hasPrefix "ONSTAGE_" $variable.name) (hasKey $written $key) -}}
{{- fail (printf "`extraEnv[%d]` is `%s`, which ports, probes and volumes depend on: set `%s` instead" $index $variable.name (get $written $key)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.admin.enabled (not .Values.admin.tokenSecret.name) -}}
{{- fail "`admin.enabled` is true, but `admin.tokenSecret.name` names no Secret: the management API takes no request without a token" -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkPorts" -}}
{{- $ports := dict "config.server.port" (include "onstage.httpPort" .) -}}
{{- with include "onstage.grpcPort" . -}}{{- $_ := set $ports "config.server.grpc_port" . -}}{{- end -}}
{{- if .Values.admin.enabled -}}{{- $_ := set $ports "admin.port" (int64 .Values.admin.port | toString) -}}{{- end -}}
{{- $seen := dict -}}
{{- range $path, $port := $ports -}}
{{- if lt (int $port) 1024 -}}
{{- fail (printf "`%s` is %s, which only root may open: expected 1024 to 65535. The Service's port is `service.httpPort`" $path $port) -}}
{{- end -}}
{{- if hasKey $seen $port -}}
{{- fail (printf "`%s` and `%s` are both %s: each needs a port of its own" (get $seen $port) $path $port) -}}
{{- end -}}
{{- $_ := set $seen $port $path -}}
{{- end -}}
{{- range $index, $container := .Values.extraContainers -}}
{{- range $container.ports -}}
{{- $port := printf "%s%d" (ternary "" (default "TCP" .protocol) (eq (default "TCP" .protocol) "TCP")) (int .containerPort) -}}
{{- if hasKey $seen $port -}}
{{- fail (printf "`%s` and a port of `extraContainers[%d]` are both %s: each needs a port of its own" (get $seen $port) $index $port) -}}
{{- end -}}
{{- $_ := set $seen $port (printf "extraContainers[%d]" $index) -}}
{{- end -}}
{{- end -}}
{{- if and (include "onstage.grpcPort" .) (eq (int .Values.service.httpPort) (int .Values.service.grpcPort)) -}}
{{- fail (printf "`service.httpPort` and `service.grpcPort` are both %d: each needs a port of its own" (int .Values.service.httpPort)) -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkTls" -}}
{{- $tls := dig "server" "tls" dict .Values.config -}}
{{- $isTls := include "onstage.tls" . -}}
{{- if and $isTls (eq .Values.probes.scheme "HTTP") -}}
{{- fail "`probes.scheme` is `HTTP`, but with `config.server.tls.cert_file` the server speaks TLS only: leave `probes.scheme` out" -}}
{{- end -}}
{{- $isElsewhere := or .Values.extraEnv .Values.extraEnvFrom .Values.registry.credentialsSecret -}}
{{- if and (not $isTls) (not $isElsewhere) (eq .Values.probes.scheme "HTTPS") -}}
{{- fail "`probes.scheme` is `HTTPS`, but `config.server.tls.cert_file` names no certificate, so the server speaks no TLS" -}}
{{- end -}}
{{- if and $isTls (not $tls.key_file) -}}
{{- fail "`config.server.tls.cert_file` is set, but not `config.server.tls.key_file`, its private key" -}}
{{- end -}}
{{- if include "onstage.clientsNeedCertificates" . -}}
{{- if not $tls.client_ca_file -}}
{{- fail "`config.server.tls.client_auth` is `required`, but `config.server.tls.client_ca_file` names no authority of clients" -}}
{{- end -}}
{{- if eq (include "onstage.probeType" .) "http" -}}
{{- fail "`probes.type` is `http`, but `config.server.tls.client_auth` is `required`, and the kubelet has no certificate to show: leave `probes.type` out" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkModels" -}}
{{- if and (eq .Values.cache.type "pvc") (not .Values.cache.claimName) -}}
{{- fail "`cache.type` is `pvc`, but `cache.claimName` names no PersistentVolumeClaim" -}}
{{- end -}}
{{- with .Values.models -}}
{{- if gt (len (compact (list .pvc.claimName .ociImage.reference (join "," .download.targets)))) 1 -}}
{{- fail "`models.pvc`, `models.ociImage` and `models.download` all fill /mnt/models: choose one" -}}
{{- end -}}
{{- if and .download.targets (not .download.registry) (not (dig "registry" "uri" "" $.Values.config)) -}}
{{- fail "`models.download.targets` has versions, but no registry to copy them from: set `models.download.registry` or `config.registry.uri`" -}}
{{- end -}}
{{- if regexMatch "(^|/)\\.\\.(/|$)" (default "" .pvc.subPath) -}}
{{- fail (printf "`models.pvc.subPath` is `%s`, expected a relative path without `..`" .pvc.subPath) -}}
{{- end -}}
{{- if and .ociImage.reference (semverCompare "<1.31.0-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "`models.ociImage` needs Kubernetes 1.31 or newer; this cluster is %s" $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkScaling" -}}
{{- $values := .Values -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- fail "`autoscaling.enabled` and `keda.enabled` are both true: KEDA makes a HorizontalPodAutoscaler of its own, so choose one" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scaling := get $values $name -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "`%s.minReplicas` is %d, more than `%s.maxReplicas`, which is %d" $name (int $scaling.minReplicas) $name (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- range $index, $metric := $values.autoscaling.extraMetrics -}}
{{- $field := printf "%s%s" (lower (substr 0 1 $metric.type)) (substr 1 -1 $metric.type) -}}
{{- $source := get $metric $field -}}
{{- if not $source -}}
{{- fail (printf "`autoscaling.extraMetrics[%d]` is of the type `%s`, but has no `%s`" $index $metric.type $field) -}}
{{- end -}}
{{- range $key, $amount := omit (default dict $source.target) "type" "averageUtilization" -}}
{{- $text := include "onstage.quantity" $amount -}}
{{- if not (and (regexMatch "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)?$" $text) (regexMatch "[1-9]" $text)) -}}
{{- fail (printf "`autoscaling.extraMetrics[%d].%s.target.%s` is `%s`, expected a quantity above 0, such as `500m`" $index $field $key $text) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if and .enabled (not .targetCPUUtilizationPercentage) (not .targetSaturation) (not .extraMetrics) -}}
{{- fail "`autoscaling.enabled` is true, but there is nothing to scale on: set `targetCPUUtilizationPercentage`, `targetSaturation` or `extraMetrics`" -}}
{{- end -}}
{{- if and .enabled .targetCPUUtilizationPercentage -}}
{{- if not (dig "requests" "cpu" "" $values.resources) -}}
{{- fail "`autoscaling.targetCPUUtilizationPercentage` is a share of `resources.requests.cpu`, which is not set" -}}
{{- end -}}
{{- range $index, $container := $values.extraContainers -}}
{{- if not (or (dig "resources" "requests" "cpu" "" $container) (dig "resources" "limits" "cpu" "" $container)) -}}
{{- fail (printf "`autoscaling.targetCPUUtilizationPercentage` is a share of the CPU requests of all containers, and `extraContainers[%d]` has none" $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkRollout" -}}
{{- with .Values.deployment -}}
{{- if and (regexMatch "^0+%?$" (toString .maxSurge)) (regexMatch "^0+%?$" (toString .maxUnavailable)) -}}
{{- fail "`deployment.maxSurge` and `deployment.maxUnavailable` are both 0: nothing could ever be replaced" -}}
{{- end -}}
{{- if le (int64 .progressDeadlineSeconds) (int64 .minReadySeconds) -}}
{{- fail (printf "`deployment.progressDeadlineSeconds` is %d, but must be more than `deployment.minReadySeconds`, which is %d" (int64 .progressDeadlineSeconds) (int64 .minReadySeconds)) -}}
{{- end -}}
{{- end -}}
{{- range $path, $amount := dict "deployment.maxUnavailable" .Values.deployment.maxUnavailable "podDisruptionBudget.maxUnavailable" .Values.podDisruptionBudget.maxUnavailable -}}
{{- if and (kindIs "string" $amount) (gt (trimSuffix "%" $amount | int64) 100) -}}
{{- fail (printf "`%s` is %s, expected at most 100%%" $path $amount) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.shutdown.preStopSeconds (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "`shutdown.preStopSeconds` needs Kubernetes 1.30 or newer; this cluster is %s. `shutdown.delaySeconds` does the same" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{/* Names of volumes and paths of mounts, those of the chart among them. */}}
{{- define "onstage.checkVolumes" -}}
{{- $volumes := list "config" "cache" "tmp" -}}
{{- $paths := list "/etc/onstage/config" "/var/cache/onstage" "/tmp" -}}
{{- if include "onstage.modelVolume" . -}}
{{- $volumes = append $volumes "models" -}}{{- $paths = append $paths "/mnt/models" -}}
{{- end -}}
{{- $secrets := list -}}
{{- range include "onstage.secretMounts" . | fromYamlArray -}}
{{- $secrets = append $secrets .name -}}
{{- $volumes = append $volumes (printf "secret-%s" .name) -}}{{- $paths = append $paths (printf "/etc/onstage/secrets/%s" .name) -}}
{{- end -}}
{{- include "onstage.unique" (dict "names" $secrets "what" "of `secretMounts` and the Secrets of `admin` and `registry.webhookSecret` the name") -}}
{{- range .Values.extraVolumes -}}{{- $volumes = append $volumes .name -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $volumes "what" "of `extraVolumes` and the volumes of the chart the name") -}}
{{- range $index, $mount := .Values.extraVolumeMounts -}}
{{- $paths = append $paths ($mount.mountPath | trimSuffix "/") -}}
{{- if not (has $mount.name $volumes) -}}
{{- fail (printf "`extraVolumeMounts[%d].name` is `%s`, but no volume has that name: name one in `extraVolumes`" $index $mount.name) -}}
{{- end -}}
{{- if regexMatch "(^|/)\\.\\.(/|$)" (default "" $mount.subPath) -}}
{{- fail (printf "`extraVolumeMounts[%d].subPath` is `%s`, expected a relative path without `..`" $index $mount.subPath) -}}
{{- end -}}
{{- end -}}
{{- include "onstage.unique" (dict "names" $paths "what" "of `extraVolumeMounts` and the mounts of the chart the path") -}}
{{- range $list := list "extraContainers" "extraInitContainers" -}}
{{- range $index, $container := default list (get $.Values $list) -}}
{{- $paths := list -}}
{{- range $container.volumeMounts -}}
{{- $paths = append $paths .mountPath -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "`%s[%d]` mounts `%s`, but no volume has that name: name one in `extraVolumes`" $list $index .name) -}}
{{- end -}}
{{- end -}}
{{- include "onstage.unique" (dict "names" $paths "what" (printf "of the mounts in `%s[%d]` the path" $list $index)) -}}
{{- $ports := list -}}
{{- range $container.ports -}}{{- if .name -}}{{- $ports = append $ports .name -}}{{- end -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $ports "what" (printf "of the ports in `%s[%d]` the name" $list $index)) -}}
{{- $variables := list -}}
{{- range $container.env -}}{{- $variables = append $variables .name -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $variables "what" (printf "of the variables in `%s[%d]` the name" $list $index)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkContainers" -}}
{{- $names := list "onstage" -}}
{{- if .Values.models.download.targets -}}{{- $names = append $names "download" -}}{{- end -}}
{{- range concat (default list .Values.extraContainers) (default list .Values.extraInitContainers) -}}{{- $names = append $names .name -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $names "what" "of `extraContainers`, `extraInitContainers` and the containers of the chart the name") -}}
{{- $variables := list "ONSTAGE_SERVER__HOST" "TMPDIR" -}}
{{- range .Values.extraEnv -}}{{- $variables = append $variables .name -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $variables "what" "of `extraEnv` and the variables of the chart the name") -}}
{{- include "onstage.unique" (dict "names" (default list .Values.imagePullSecrets) "what" "of `imagePullSecrets` the name") -}}
{{- $contexts := dict "podSecurityContext" .Values.podSecurityContext "securityContext" .Values.securityContext -}}
{{- range $list := list "extraContainers" "extraInitContainers" -}}
{{- range $index, $container := default list (get $.Values $list) -}}
{{- with $container.securityContext -}}{{- $_ := set $contexts (printf "%s[%d].securityContext" $list $index) . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $path, $context := $contexts -}}
{{- $user := get $context "runAsUser" -}}
{{- if and $context.runAsNonRoot (not (kindIs "invalid" $user)) (eq (toString $user) "0") -}}
{{- fail (printf "`%s.runAsUser` is 0, but `runAsNonRoot` is true, so that no container would start" $path) -}}
{{- end -}}
{{- end -}}
{{- $sysctls := list -}}
{{- range .Values.podSecurityContext.sysctls -}}{{- $sysctls = append $sysctls .name -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $sysctls "what" "of `podSecurityContext.sysctls` the name") -}}
{{- $isPrivileged := .Values.securityContext.privileged -}}
{{- range $index, $mount := .Values.extraVolumeMounts -}}
{{- if and (eq (default "" $mount.mountPropagation) "Bidirectional") (not $isPrivileged) -}}
{{- fail (printf "`extraVolumeMounts[%d].mountPropagation` is `Bidirectional`, which only privileged containers may have" $index) -}}
{{- end -}}
{{- end -}}
{{- range $index, $container := .Values.extraContainers -}}
{{- if $container.restartPolicy -}}
{{- fail (printf "`extraContainers[%d]` has a `restartPolicy`, which only init containers may have: those of `extraInitContainers` with `Always` run beside as well" $index) -}}
{{- end -}}
{{- end -}}
{{- range $index, $container := .Values.extraInitContainers -}}
{{- range $field := list "lifecycle" "livenessProbe" "readinessProbe" "startupProbe" -}}
{{- if and (get $container $field) (not $container.restartPolicy) -}}
{{- fail (printf "`extraInitContainers[%d]` has `%s`, which an init container may have only with `restartPolicy: Always`" $index $field) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkPlacement" -}}
{{- range $index, $toleration := .Values.tolerations -}}
{{- $operator := default "Equal" $toleration.operator -}}
{{- if and (eq $operator "Exists") $toleration.value -}}
{{- fail (printf "`tolerations[%d]` has a `value`, but with the operator `Exists` there is none" $index) -}}
{{- end -}}
{{- if and (not $toleration.key) (ne $operator "Exists") -}}
{{- fail (printf "`tolerations[%d]` has no `key`: then `operator` must be `Exists`" $index) -}}
{{- end -}}
{{- if and (hasKey $toleration "tolerationSeconds") (ne (default "" $toleration.effect) "NoExecute") -}}
{{- fail (printf "`tolerations[%d]` has `tolerationSeconds`: then `effect` must be `NoExecute`" $index) -}}
{{- end -}}
{{- end -}}
{{- $spread := list -}}
{{- range $index, $constraint := .Values.topologySpreadConstraints -}}
{{- if and (hasKey $constraint "minDomains") (ne $constraint.whenUnsatisfiable "DoNotSchedule") -}}
{{- fail (printf "`topologySpreadConstraints[%d]` has `minDomains`: then `whenUnsatisfiable` must be `DoNotSchedule`" $index) -}}
{{- end -}}
{{- range $constraint.matchLabelKeys -}}
{{- if hasKey (dig "labelSelector" "matchLabels" dict $constraint) . -}}
{{- fail (printf "`topologySpreadConstraints[%d]` has the label `%s` in `matchLabelKeys` and in `labelSelector`: expected one of them" $index .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.topologySpreadConstraints -}}{{- $spread = append $spread (printf "%s, %s" .topologyKey .whenUnsatisfiable) -}}{{- end -}}
{{- include "onstage.unique" (dict "names" $spread "what" "of `topologySpreadConstraints` the pair") -}}
{{- end -}}

{{- define "onstage.checkRoutes" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "`ingress.enabled` is true, but `ingress.hosts` is empty" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "`httpRoute.enabled` is true, but `httpRoute.parentRefs` names no Gateway" -}}
{{- end -}}
{{- $gateways := dict -}}
{{- range $index, $gateway := .Values.httpRoute.parentRefs -}}
{{- $key := omit $gateway "sectionName" "port" | toJson -}}
{{- $sections := default list (get $gateways $key) -}}
{{- $section := default "" $gateway.sectionName -}}
{{- if and $sections (or (eq $section "") (has "" $sections) (has $section $sections)) -}}
{{- fail (printf "`httpRoute.parentRefs[%d]` names a Gateway that is there already: each needs a `sectionName`, and another one" $index) -}}
{{- end -}}
{{- $_ := set $gateways $key (append $sections $section) -}}
{{- end -}}
{{- if and .Values.ingress.className (hasKey (default dict .Values.ingress.annotations) "kubernetes.io/ingress.class") -}}
{{- fail "`ingress.className` and the annotation `kubernetes.io/ingress.class` in `ingress.annotations` both name a class: leave the annotation out" -}}
{{- end -}}
{{- range $index, $host := .Values.ingress.hosts -}}
{{- range $host.paths -}}
{{- if ne .pathType "ImplementationSpecific" -}}
{{- include "onstage.checkPath" (dict "text" .path "path" (printf "ingress.hosts[%d].paths" $index)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "onstage.checkPath" (dict "text" .Values.httpRoute.path "path" "httpRoute.path") -}}
{{- range $list := list "from" "metricsFrom" -}}
{{- range $index, $peer := default list (get $.Values.networkPolicy $list) -}}
{{- include "onstage.checkPeer" (dict "peer" $peer "path" (printf "networkPolicy.%s[%d]" $list $index)) -}}
{{- end -}}
{{- end -}}
{{- range $index, $rule := .Values.networkPolicy.egress -}}
{{- range $rule.ports -}}
{{- include "onstage.checkPolicyPort" (dict "port" . "path" (printf "networkPolicy.egress[%d].ports" $index)) -}}
{{- end -}}
{{- range $rule.to -}}
{{- include "onstage.checkPeer" (dict "peer" . "path" (printf "networkPolicy.egress[%d].to" $index)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkPath" -}}
{{- if regexMatch "//|/\\.\\.?(/|$)|%2[fF]" .text -}}
{{- fail (printf "`%s` has `%s`, expected a path without `//`, `/./`, `/../` and `%%2f`" .path .text) -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkPolicyPort" -}}
{{- $isNumber := not (kindIs "string" .port.port) -}}
{{- if and (hasKey .port "endPort") (or (not .port.port) (not $isNumber) (lt (int .port.endPort) (int .port.port))) -}}
{{- fail (printf "`%s` has `endPort`: then `port` must be a number that is not above it" .path) -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkPeer" -}}
{{- if and .peer.ipBlock (or .peer.podSelector .peer.namespaceSelector) -}}
{{- fail (printf "`%s` has `ipBlock` and a selector: make two entries of them" .path) -}}
{{- end -}}
{{- if not (or (hasKey .peer "ipBlock") (hasKey .peer "podSelector") (hasKey .peer "namespaceSelector")) -}}
{{- fail (printf "`%s` names nobody: expected `podSelector`, `namespaceSelector` or `ipBlock`" .path) -}}
{{- end -}}
{{- $path := .path -}}
{{- with .peer.ipBlock -}}
{{- $outer := splitList "/" .cidr -}}
{{- range .except -}}
{{- $inner := splitList "/" . -}}
{{- $isWithin := and (eq (contains ":" (first $outer)) (contains ":" (first $inner))) (gt (last $inner | int) (last $outer | int)) -}}
{{- if and $isWithin (not (contains ":" .)) -}}
{{- $hosts := sub 32 (last $outer | int) | int -}}
{{- $isWithin = eq (include "onstage.network" (dict "address" (first $outer) "hosts" $hosts)) (include "onstage.network" (dict "address" (first $inner) "hosts" $hosts)) -}}
{{- end -}}
{{- if not $isWithin -}}
{{- fail (printf "`%s.ipBlock.except` has `%s`, which is no smaller network within its `cidr`" $path .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The number of an IPv4 network: its address without the last bits. */}}
{{- define "onstage.network" -}}
{{- $number := 0 -}}
{{- range splitList "." .address -}}{{- $number = add (mul $number 256) (int .) -}}{{- end -}}
{{- range until .hosts -}}{{- $number = div $number 2 -}}{{- end -}}
{{- $number -}}
{{- end -}}

{{- define "onstage.checkMonitors" -}}
{{- $metrics := .Values.metrics -}}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled -}}
{{- fail "`metrics.serviceMonitor.enabled` and `metrics.podMonitor.enabled` are both true: every pod would be counted twice" -}}
{{- end -}}
{{- range $name := list "serviceMonitor" "podMonitor" -}}
{{- $monitor := get $metrics $name -}}
{{- $endpoint := default dict $monitor.endpoint -}}
{{- $certificate := or (dig "tlsConfig" "cert" "" $endpoint) (dig "tlsConfig" "certFile" "" $endpoint) -}}
{{- $key := or $endpoint.authorization $endpoint.basicAuth $endpoint.bearerTokenSecret $endpoint.bearerTokenFile $endpoint.oauth2 -}}
{{- if and $monitor.enabled (include "onstage.clientsNeedCertificates" $) (not $certificate) -}}
{{- fail (printf "`metrics.%s` shows no certificate, but `config.server.tls.client_auth` is `required`, so that Prometheus could not connect: name one in `metrics.%s.endpoint.tlsConfig`" $name $name) -}}
{{- end -}}
{{- if and $monitor.enabled (include "onstage.metricsNeedKey" $) (not (or $key $certificate)) -}}
{{- fail (printf "`metrics.%s` has no credentials, but `config.auth` asks callers who they are, so that /metrics would answer 401: name a key of the scope `read` in `metrics.%s.endpoint.authorization`, or set `config.auth.public_metrics`" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the metrics are for known callers only, as far as the values tell. */}}
{{- define "onstage.metricsNeedKey" -}}
{{- $isPublic := dig "auth" "public_metrics" false .Values.config -}}
{{- range .Values.extraArgs -}}{{- if hasPrefix "--public-metrics" . -}}{{- $isPublic = true -}}{{- end -}}{{- end -}}
{{- range .Values.extraEnv -}}{{- if eq .name "ONSTAGE_AUTH__PUBLIC_METRICS" -}}{{- $isPublic = true -}}{{- end -}}{{- end -}}
{{- if and (include "onstage.asksCallers" .) (not $isPublic) -}}true{{- end -}}
{{- end -}}
