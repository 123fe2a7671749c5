{{/* What a schema cannot say: values that contradict each other, or the cluster. Each is told in a sentence. */}}
{{- define "onstage.validate" -}}
{{- $values := .Values -}}
{{- $server := dig "server" dict $values.config -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- fail "`autoscaling.enabled` and `keda.enabled` are both true: KEDA makes a HorizontalPodAutoscaler of its own, so choose one" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scaling := get $values $name -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "`%s.minReplicas` is %d, more than `%s.maxReplicas`, which is %d" $name (int $scaling.minReplicas) $name (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if and .enabled (not .targetCPUUtilizationPercentage) (not .targetSaturation) (not .extraMetrics) -}}
{{- fail "`autoscaling.enabled` is true, but there is nothing to scale on: set `targetCPUUtilizationPercentage`, `targetSaturation` or `extraMetrics`" -}}
{{- end -}}
{{- if and .enabled .targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- fail "`autoscaling.targetCPUUtilizationPercentage` is a share of `resources.requests.cpu`, which is not set" -}}
{{- end -}}
{{- end -}}
{{- range $key, $other := dict "shutdown_delay" "shutdown.delaySeconds" "drain_timeout" "shutdown.drainSeconds" "admin_port" "admin.port" "admin_token_file" "admin.tokenSecret" -}}
{{- if hasKey $server $key -}}
{{- fail (printf "`config.server.%s` is written by the chart: set `%s` instead" $key $other) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $server "host") (ne (toString $server.host) "0.0.0.0") -}}
{{- fail "`config.server.host` is `0.0.0.0` in a pod, else nobody reaches it: leave it out" -}}
{{- end -}}
{{- range $key, $other := dict "cache_dir" "cache" "webhook_secret_file" "registry.webhookSecret" -}}
{{- if hasKey (dig "registry" dict $values.config) $key -}}
{{- fail (printf "`config.registry.%s` is written by the chart: set `%s` instead" $key $other) -}}
{{- end -}}
{{- end -}}
{{- if and $values.admin.enabled (not $values.admin.tokenSecret.name) -}}
{{- fail "`admin.enabled` is true, but `admin.tokenSecret.name` names no Secret: the management API takes no request without a token" -}}
{{- end -}}
{{- if and (eq $values.cache.type "pvc") (not $values.cache.claimName) -}}
{{- fail "`cache.type` is `pvc`, but `cache.claimName` names no PersistentVolumeClaim" -}}
{{- end -}}
{{- with $values.models -}}
{{- if gt (len (compact (list .pvc.claimName .ociImage.reference (join "," .download.targets)))) 1 -}}
{{- fail "`models.pvc`, `models.ociImage` and `models.download` all fill /mnt/models: choose one" -}}
{{- end -}}
{{- if and .download.targets (not .download.registry) (not (dig "registry" "uri" "" $values.config)) -}}
{{- fail "`models.download.targets` has versions, but no registry to copy them from: set `models.download.registry` or `config.registry.uri`" -}}
{{- end -}}
{{- if and .ociImage.reference (semverCompare "<1.31.0-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "`models.ociImage` needs Kubernetes 1.31 or newer; this cluster is %s" $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- if and $values.shutdown.preStopSeconds (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "`shutdown.preStopSeconds` needs Kubernetes 1.30 or newer; this cluster is %s. `shutdown.delaySeconds` does the same" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and (eq (int $values.deployment.maxSurge) 0) (eq (int $values.deployment.maxUnavailable) 0) -}}
{{- fail "`deployment.maxSurge` and `deployment.maxUnavailable` are both 0: nothing could ever be replaced" -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- fail "`ingress.enabled` is true, but `ingress.hosts` is empty" -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- fail "`httpRoute.enabled` is true, but `httpRoute.parentRefs` names no Gateway" -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled -}}
{{- fail "`metrics.serviceMonitor.enabled` and `metrics.podMonitor.enabled` are both true: every pod would be counted twice" -}}
{{- end -}}
{{- end -}}
