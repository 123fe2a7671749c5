{{- define "onstage.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "onstage.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "onstage.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default (printf "%s-full" $.Chart.AppVersion) .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.httpPort" -}}
{{- dig "server" "port" 8080 .Values.config | int -}}
{{- end -}}

{{/* Empty where there is none. */}}
{{- define "onstage.grpcPort" -}}
{{- $port := dig "server" "grpc_port" 8081 .Values.config | toString -}}
{{- if ne $port "off" -}}{{- $port | float64 | int -}}{{- end -}}
{{- end -}}

{{- define "onstage.path" -}}
{{- $base := dig "server" "base_path" "" .Values.config | trimAll "/" -}}
{{- if $base -}}{{- printf "/%s" $base -}}{{- end -}}
{{- end -}}

{{/* Where the packages of a volume are; empty where there is no volume. */}}
{{- define "onstage.modelVolume" -}}
{{- with .Values.models -}}
{{- if or .pvc.claimName .ociImage.reference .download.targets -}}/mnt/models{{- end -}}
{{- end -}}
{{- end -}}

{{/* The image's example is served unless a value names models. Arguments that say nothing of models change nothing here. */}}
{{- define "onstage.servesExample" -}}
{{- $follow := dig "registry" "follow" list .Values.config -}}
{{- range .Values.extraArgs -}}{{- if hasPrefix "--follow" . -}}{{- $follow = list . -}}{{- end -}}{{- end -}}
{{- range .Values.extraEnv -}}{{- if eq .name "ONSTAGE_REGISTRY__FOLLOW" -}}{{- $follow = list .name -}}{{- end -}}{{- end -}}
{{- $models := dig "models" dict .Values.config -}}
{{- if not (or .Values.models.targets $follow $models (include "onstage.modelVolume" .)) -}}true{{- end -}}
{{- end -}}

{{- define "onstage.graceSeconds" -}}
{{- with .Values.shutdown -}}
{{- add .preStopSeconds .delaySeconds .drainSeconds .marginSeconds -}}
{{- end -}}
{{- end -}}

{{/* Whether the server speaks TLS, as far as the configuration says. */}}
{{- define "onstage.tls" -}}
{{- if dig "server" "tls" "cert_file" "" .Values.config -}}true{{- end -}}
{{- end -}}

{{- define "onstage.clientsNeedCertificates" -}}
{{- if and (include "onstage.tls" .) (eq (dig "server" "tls" "client_auth" "none" .Values.config | toString) "required") -}}true{{- end -}}
{{- end -}}

{{- define "onstage.scheme" -}}
{{- default (ternary "HTTPS" "HTTP" (eq (include "onstage.tls" .) "true")) .Values.probes.scheme -}}
{{- end -}}

{{/* A kubelet has no certificate to show. */}}
{{- define "onstage.probeType" -}}
{{- default (ternary "exec" "http" (eq (include "onstage.clientsNeedCertificates" .) "true")) .Values.probes.type -}}
{{- end -}}

{{/* Where clients must show a certificate, `onstage health` shows that of the server, unless `arguments` name another. */}}
{{- define "onstage.healthIdentity" -}}
{{- $own := "" -}}
{{- range .arguments -}}{{- if regexMatch "^--cert(=|$)" . -}}{{- $own = . -}}{{- end -}}{{- end -}}
{{- if and (include "onstage.clientsNeedCertificates" .root) (not $own) -}}
{{- $tls := .root.Values.config.server.tls -}}
{{- list (printf "--cert=%s" $tls.cert_file) (printf "--key=%s" (default "" $tls.key_file)) | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Whether callers must say who they are. */}}
{{- define "onstage.asksCallers" -}}
{{- if or (dig "auth" "callers_file" "" .Values.config) (dig "auth" "jwt" "jwks" "" .Values.config) -}}true{{- end -}}
{{- end -}}

{{/* A number of pods, or a percentage. */}}
{{- define "onstage.intOrPercent" -}}
{{- if kindIs "string" . -}}{{- . | quote -}}{{- else -}}{{- int64 . -}}{{- end -}}
{{- end -}}

{{/*
Pods of the Deployment. An autoscaler owns the number, but a Deployment that says nothing is set to 1 when it said something before. So it
says what runs, and at least what the autoscaler starts from; without a cluster to ask, nothing.
*/}}
{{- define "onstage.replicas" -}}
{{- include "onstage.remember" . -}}
{{- $scaling := ternary .Values.keda .Values.autoscaling .Values.keda.enabled -}}
{{- if not $scaling.enabled -}}
{{- int64 .Values.replicaCount -}}
{{- else if .Values._release.live -}}
{{- max (dig "spec" "replicas" 1 .Values._release.live | int64) (int64 $scaling.minReplicas) -}}
{{- end -}}
{{- end -}}

{{/* Where the prober and the server find the configuration: an annotation of the pod, so that each revision keeps its own. */}}
{{- define "onstage.configVolume" -}}
- name: config
  downwardAPI:
    items:
      - path: onstage.toml
        fieldRef:
          fieldPath: metadata.annotations['onstage/config']
{{- end -}}

{{/* `config`, with what the chart itself decides. */}}
{{- define "onstage.config" -}}
{{- $server := dict "shutdown_delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) "drain_timeout" (printf "%ds" (int .Values.shutdown.drainSeconds)) -}}
{{- $_ := set $server "host" "0.0.0.0" -}}
{{- with .Values.admin -}}
{{- if .enabled -}}
{{- $_ := set $server "admin_port" (int64 .port) -}}
{{- $_ := set $server "admin_token_file" (printf "/etc/onstage/secrets/admin/%s" .tokenSecret.key) -}}
{{- end -}}
{{- end -}}
{{- $registry := dict "cache_dir" "/var/cache/onstage" -}}
{{- with .Values.registry.webhookSecret -}}
{{- if .name -}}
{{- $_ := set $registry "webhook_secret_file" (printf "/etc/onstage/secrets/webhook/%s" .key) -}}
{{/* One replica hears of a change; with TLS only the operator knows a name that the certificate has. */}}
{{- $tls := dig "server" "tls" "cert_file" "" $.Values.config -}}
{{- $chosen := hasKey (dig "registry" dict $.Values.config) "peers" -}}
{{- if and $.Values.service.headless (not $tls) (not $chosen) -}}
{{- $peer := printf "%s-headless:%s" (include "onstage.fullname" $) (include "onstage.httpPort" $) -}}
{{- $_ := set $registry "peers" (list $peer) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{/* The init container asks the registry; the server then needs its copy alone. */}}
{{- if .Values.models.download.targets -}}
{{- $_ := set $registry "uri" "/mnt/models" -}}
{{- end -}}
{{- $config := mergeOverwrite (deepCopy .Values.config) (dict "server" $server "registry" $registry) -}}
{{- include "onstage.toml" (dict "path" "" "table" $config) -}}
{{- end -}}

{{- define "onstage.args" -}}
- serve
- --config=/etc/onstage/config/onstage.toml
{{- if include "onstage.servesExample" . }}
- /models/iris
{{- end }}
{{- range .Values.models.targets }}
- {{ . | quote }}
{{- end }}
{{- if not .Values.models.targets }}
{{- if or .Values.models.pvc.claimName .Values.models.ociImage.reference }}
- /mnt/models
{{- else }}
{{- range .Values.models.download.targets }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "onstage.probe" -}}
{{- $root := .root -}}
{{- if eq (include "onstage.probeType" $root) "exec" }}
exec:
  command:
    - /usr/local/bin/onstage
    - health
    - --config=/etc/onstage/config/onstage.toml
    {{- if eq .question "live" }}
    - --live
    {{- end }}
    {{- with include "onstage.healthIdentity" (dict "root" $root "arguments" $root.Values.probes.exec.extraArgs) }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $root.Values.probes.exec.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- else }}
httpGet:
  path: {{ printf "%s/v2/health/%s" (include "onstage.path" $root) .question | quote }}
  port: http
  scheme: {{ include "onstage.scheme" $root }}
{{- end }}
{{- end -}}

{{/* How NOTES reach the server through `kubectl port-forward`. */}}
{{- define "onstage.curl" -}}
{{- $options := "" -}}
{{- if eq (include "onstage.scheme" .) "HTTPS" -}}{{- $options = "--insecure " -}}{{- end -}}
{{- if include "onstage.clientsNeedCertificates" . -}}{{- $options = printf "%s--cert tls.crt --key tls.key " $options -}}{{- end -}}
{{- if include "onstage.asksCallers" . -}}{{- $options = printf "%s-H \"Authorization: Bearer $KEY\" " $options -}}{{- end -}}
{{- printf "%s%s://127.0.0.1:8080%s" $options (lower (include "onstage.scheme" .)) (include "onstage.path" .) -}}
{{- end -}}

{{/* Where a monitor reads the metrics. */}}
{{- define "onstage.endpoint" -}}
{{- $ours := dict "port" "http" "path" (printf "%s/metrics" (include "onstage.path" .root)) "interval" .monitor.interval "scheme" (lower (include "onstage.scheme" .root)) -}}
{{- toYaml (mergeOverwrite $ours (deepCopy (default dict .monitor.endpoint))) -}}
{{- end -}}
