{{- define "onstage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "onstage.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "onstage.selector" -}}
app.kubernetes.io/name: {{ include "onstage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "onstage.labels" -}}
{{ include "onstage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: server
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "onstage.metadata" -}}
name: {{ include "onstage.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "onstage.labels" . | nindent 2 }}
{{- end -}}

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

{{/* The example of the image is served where nothing was asked for. */}}
{{- define "onstage.servesExample" -}}
{{- $follow := dig "registry" "follow" list .Values.config -}}
{{- $models := dig "models" dict .Values.config -}}
{{- if not (or .Values.models.targets $follow $models (include "onstage.modelVolume" .) .Values.extraArgs) -}}true{{- end -}}
{{- end -}}

{{- define "onstage.graceSeconds" -}}
{{- with .Values.shutdown -}}
{{- add .preStopSeconds .delaySeconds .drainSeconds .marginSeconds -}}
{{- end -}}
{{- end -}}

{{/* `config`, with what the chart itself decides. */}}
{{- define "onstage.config" -}}
{{- $server := dict "shutdown_delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) "drain_timeout" (printf "%ds" (int .Values.shutdown.drainSeconds)) -}}
{{- $_ := set $server "host" "0.0.0.0" -}}
{{- with .Values.admin -}}
{{- if .enabled -}}
{{- $_ := set $server "admin_port" .port -}}
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
{{- if eq $root.Values.probes.type "exec" }}
exec:
  command: [/usr/local/bin/onstage, health, --config=/etc/onstage/config/onstage.toml{{ if eq .question "live" }}, --live{{ end }}]
{{- else }}
httpGet:
  path: {{ include "onstage.path" $root }}/v2/health/{{ .question }}
  port: http
  scheme: {{ $root.Values.probes.scheme }}
{{- end }}
{{- end -}}
