{{/* Refuses each text that is not of its kind in files/rules.yaml. */}}
{{- define "onstage.checkTexts" -}}
{{- $rules := .Files.Get "files/rules.yaml" | fromYaml -}}
{{- $values := omit .Values "_release" -}}
{{- range $rules.values -}}
{{- include "onstage.walk" (dict "value" $values "rest" (splitList "." (index . 0)) "path" "" "kind" (get $rules.kinds (index . 1))) -}}
{{- end -}}
{{- end -}}

{{- define "onstage.walk" -}}
{{- $kind := .kind -}}
{{- $path := .path -}}
{{- if not .rest -}}
{{- include "onstage.checkText" (dict "text" (include "onstage.quantity" .value) "path" $path "kind" $kind) -}}
{{- else -}}
{{- $step := first .rest -}}
{{- $rest := rest .rest -}}
{{- if and (eq $step "[]") (kindIs "slice" .value) -}}
{{- range $index, $value := .value -}}
{{- include "onstage.walk" (dict "value" $value "rest" $rest "path" (printf "%s[%d]" $path $index) "kind" $kind) -}}
{{- end -}}
{{- else if kindIs "map" .value -}}
{{- if eq $step "{key}" -}}
{{- range $key, $_ := .value -}}
{{- include "onstage.checkText" (dict "text" $key "path" (printf "a key of `%s`" $path) "kind" $kind "isKey" true) -}}
{{- end -}}
{{- else if eq $step "{}" -}}
{{- range $key, $value := .value -}}
{{- if not (kindIs "invalid" $value) -}}
{{- include "onstage.walk" (dict "value" $value "rest" $rest "path" (printf "%s.%s" $path $key) "kind" $kind) -}}
{{- end -}}
{{- end -}}
{{- else if and (hasKey .value $step) (not (kindIs "invalid" (get .value $step))) -}}
{{- include "onstage.walk" (dict "value" (get .value $step) "rest" $rest "path" (printf "%s.%s" $path $step | trimPrefix ".") "kind" $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.checkText" -}}
{{- $text := .text -}}
{{- $isGood := le (len $text) (int .kind.longest) -}}
{{- range .kind.patterns -}}{{- if not (regexMatch . $text) -}}{{- $isGood = false -}}{{- end -}}{{- end -}}
{{- if not (or $isGood (and (eq $text "") (not .isKey))) -}}
{{- $where := ternary .path (printf "`%s`" .path) (hasKey . "isKey") -}}
{{- fail (printf "%s is `%s`, expected %s; at most %d characters" $where (trunc 80 $text) .kind.expected (int .kind.longest)) -}}
{{- end -}}
{{- end -}}

{{/* A quantity in thousandths, to compare two. */}}
{{- define "onstage.thousandths" -}}
{{- $text := include "onstage.quantity" . -}}
{{- $number := regexFind "^\\+?[0-9.]+" $text -}}
{{- $suffix := trimPrefix $number $text -}}
{{- if regexMatch "^[eE][-+]?[0-9]" $suffix -}}
{{- mulf (float64 $text) 1000 -}}
{{- else -}}
{{- $powers := dict "n" 0.000001 "u" 0.001 "m" 1 "" 1000 "k" 1e6 "M" 1e9 "G" 1e12 "T" 1e15 "P" 1e18 "E" 1e21 "Ki" 1024e3 "Mi" 1048576e3 "Gi" 1073741824e3 "Ti" 1099511627776e3 "Pi" 1125899906842624e3 "Ei" 1152921504606846976e3 -}}
{{- mulf (float64 $number) (get $powers $suffix | float64) -}}
{{- end -}}
{{- end -}}
