{{/* Credentials of the registry, and what else the environment brings. */}}
{{- define "onstage.environment" -}}
env:
  - name: ONSTAGE_SERVER__HOST
    value: 0.0.0.0
  - name: TMPDIR
    value: /tmp
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.registry.credentialsSecret .Values.extraEnvFrom }}
envFrom:
  {{- with .Values.registry.credentialsSecret }}
  - secretRef:
      name: {{ . | quote }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Each Secret that is mounted as files: `name` and `secretName`. */}}
{{- define "onstage.secretMounts" -}}
{{- $mounts := list -}}
{{- if .Values.admin.enabled -}}{{- $mounts = append $mounts (dict "name" "admin" "secretName" .Values.admin.tokenSecret.name) -}}{{- end -}}
{{- with .Values.registry.webhookSecret.name -}}{{- $mounts = append $mounts (dict "name" "webhook" "secretName" .) -}}{{- end -}}
{{- concat $mounts (default list .Values.secretMounts) | toYaml -}}
{{- end -}}

{{/* Takes a list of such. */}}
{{- define "onstage.secretVolumeMounts" -}}
{{- range . }}
- name: {{ printf "secret-%s" .name }}
  mountPath: {{ printf "/etc/onstage/secrets/%s" .name }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "onstage.secretVolumes" -}}
{{- range . }}
- name: {{ printf "secret-%s" .name }}
  secret:
    secretName: {{ .secretName | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The `extraVolumes` that hold files, such as a ConfigMap of certificates, for the pod of `helm test`; claims may allow one pod only. */}}
{{- define "onstage.fileVolumes" -}}
{{- $volumes := list -}}
{{- range .Values.extraVolumes -}}
{{- if or (hasKey . "configMap") (hasKey . "secret") (hasKey . "projected") (hasKey . "csi") -}}{{- $volumes = append $volumes . -}}{{- end -}}
{{- end -}}
{{- toYaml $volumes -}}
{{- end -}}

{{/* A quantity as the text that Kubernetes reads: numbers of values are floats. */}}
{{- define "onstage.quantity" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{- int64 . -}}{{- else -}}{{- . -}}{{- end -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- define "onstage.resources" -}}
{{- $resources := dict -}}
{{- range $half, $of := . -}}
{{- if kindIs "map" $of -}}
{{- $quantities := dict -}}
{{- range $name, $amount := $of -}}
{{- if not (kindIs "invalid" $amount) -}}{{- $_ := set $quantities $name (include "onstage.quantity" $amount) -}}{{- end -}}
{{- end -}}
{{- $_ := set $resources $half $quantities -}}
{{- else if $of -}}
{{- $_ := set $resources $half $of -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Labels of the pod of `helm test`, by which no Service finds it. */}}
{{- define "onstage.testLabels" -}}
{{- include "onstage.remember" . -}}
{{- dict "app.kubernetes.io/component" "test" "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end -}}
