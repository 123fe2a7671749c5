{{/*
TOML of a map: `path` is its name ("" for the whole file), `table` its content, in which null is what is left out. Helm's own `toToml` writes
numbers of values as floats.
*/}}
{{- define "onstage.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "onstage.toml.key" $key }} = {{ include "onstage.toml.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $name := include "onstage.toml.key" $key -}}
{{- $inner := ternary (printf "%s.%s" $path $name) $name (ne $path "") }}

[{{ $inner }}]
{{- include "onstage.toml" (dict "path" $inner "table" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{- . -}}{{- else -}}{{- include "onstage.toml.text" . -}}{{- end -}}
{{- end -}}

{{- define "onstage.toml.value" -}}
{{- if kindIs "slice" . -}}
[{{- $first := true -}}{{- range . -}}{{- if not (kindIs "invalid" .) -}}{{- if not $first }}, {{ end -}}{{- include "onstage.toml.value" . -}}{{- $first = false -}}{{- end -}}{{- end -}}]
{{- else if kindIs "map" . -}}
{ {{- $first := true -}}{{- range $key, $value := . -}}{{- if not (kindIs "invalid" $value) -}}{{- if not $first }},{{ end }} {{ include "onstage.toml.key" $key }} = {{ include "onstage.toml.value" $value -}}{{- $first = false -}}{{- end -}}{{- end }} }
{{- else -}}
{{- include "onstage.toml.text" . -}}
{{- end -}}
{{- end -}}

{{/* A text or number of JSON is one of TOML, but for control characters that JSON leaves as they are, and YAML does not take. */}}
{{- define "onstage.toml.text" -}}
{{- $text := toJson . -}}
{{- if regexMatch "[\\x{7f}-\\x{9f}\\x{feff}]" $text -}}
{{- range $code := append (untilStep 127 160 1) 65279 -}}
{{- $text = replace (printf "%c" $code) (printf "\\u%04X" $code) $text -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}
