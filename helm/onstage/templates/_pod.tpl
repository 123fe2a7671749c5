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
      name: {{ . }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Each Secret that is mounted as files: `name` and `secretName`. */}}
{{- define "onstage.secretMounts" -}}
{{- if .Values.admin.enabled }}
- name: admin
  secretName: {{ .Values.admin.tokenSecret.name }}
{{- end }}
{{- with .Values.registry.webhookSecret.name }}
- name: webhook
  secretName: {{ . }}
{{- end }}
{{- range .Values.secretMounts }}
- name: {{ .name }}
  secretName: {{ .secretName }}
{{- end }}
{{- end -}}
