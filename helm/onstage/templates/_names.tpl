{{/*
The name of the objects: a DNS label that begins with a letter, as Services require, of at most 52 characters, so that `-headless` and
the suffixes of pods fit. A name that had to be changed or cut ends with the hash of the whole, so that no two become one.
*/}}
{{- define "onstage.safeName" -}}
{{- $safe := replace "." "-" . -}}
{{- if regexMatch "^[0-9]" $safe -}}{{- $safe = printf "onstage-%s" $safe -}}{{- end -}}
{{- if or (ne $safe .) (gt (len $safe) 52) -}}
{{- printf "%s-%s" (regexReplaceAll "-+$" (trunc 43 $safe) "") (sha256sum . | trunc 8) -}}
{{- else -}}
{{- $safe -}}
{{- end -}}
{{- end -}}

{{- define "onstage.wholeName" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end -}}

{{/*
What the cluster knows of this release, asked once for a rendering: `name` of the objects, `live`, the Deployment that runs (empty
without a cluster, as for `helm template`), and its `selector`. A selector can never change, so a live one is kept, whatever it says.
*/}}
{{- define "onstage.remember" -}}
{{- if not (hasKey .Values "_release") -}}
{{- $whole := include "onstage.wholeName" . -}}
{{- $name := include "onstage.safeName" $whole -}}
{{- $live := include "onstage.deployment" (dict "root" . "name" $name) | fromJson -}}
{{/* Charts before 0.2 cut long names without a hash. */}}
{{- $cut := $whole | trunc 52 | trimSuffix "-" -}}
{{- if and (not $live) (ne $cut $name) -}}
{{- $live = include "onstage.deployment" (dict "root" . "name" $cut) | fromJson -}}
{{- if $live -}}{{- $name = $cut -}}{{- end -}}
{{- end -}}
{{- $selector := dict "app.kubernetes.io/name" .Chart.Name "app.kubernetes.io/instance" .Release.Name -}}
{{- if $live -}}
{{- $labels := dig "spec" "selector" "matchLabels" dict $live -}}
{{- if ne (keys $labels | sortAlpha | join ",") (keys $selector | sortAlpha | join ",") -}}
{{- fail (printf "the Deployment `%s` in `%s` selects its pods by other labels than this chart, and a selector can never change: name the objects differently with `fullnameOverride`, or delete it first" $name .Release.Namespace) -}}
{{- end -}}
{{- $selector = $labels -}}
{{- else if .Release.IsUpgrade -}}
{{- include "onstage.refuseRenaming" (dict "root" . "name" $name) -}}
{{- end -}}
{{- $_ := set .Values "_release" (dict "name" $name "live" $live "selector" $selector) -}}
{{- end -}}
{{- end -}}

{{/* The live Deployment of this name as JSON, `{}` when there is none, or another release has it: Helm itself refuses that. */}}
{{- define "onstage.deployment" -}}
{{- $found := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" .root.Release.Name $found -}}
{{- if and $found (eq $owner .root.Release.Name) -}}{{- toJson $found -}}{{- else -}}{}{{- end -}}
{{- end -}}

{{/* Under another name Helm would delete the running pods before those of the new Deployment are ready. */}}
{{- define "onstage.refuseRenaming" -}}
{{- $root := .root -}}
{{- range (lookup "apps/v1" "Deployment" $root.Release.Namespace "").items -}}
{{- $owner := dig "annotations" "meta.helm.sh/release-name" "" .metadata -}}
{{- $labels := dig "labels" dict .metadata -}}
{{- $isOurs := regexMatch (printf "^%s-[0-9]" $root.Chart.Name) (get $labels "helm.sh/chart") -}}
{{- if and $isOurs (eq $owner $root.Release.Name) (eq (get $labels "app.kubernetes.io/component") "server") -}}
{{- fail (printf "`nameOverride` or `fullnameOverride` would rename the running Deployment `%s` to `%s`, and its pods would end before the new ones are ready: set `fullnameOverride` to `%s`, or install a second release, move the clients to it, and uninstall this one" .metadata.name $.name .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onstage.fullname" -}}
{{- include "onstage.remember" . -}}
{{- .Values._release.name -}}
{{- end -}}

{{/* Of the release's name alone, which no value changes. */}}
{{- define "onstage.selector" -}}
{{- include "onstage.remember" . -}}
{{- toYaml .Values._release.selector -}}
{{- end -}}

{{/* Labels of pods: whatever is here restarts the pods when it changes, so versions are not. */}}
{{- define "onstage.podLabels" -}}
{{- include "onstage.remember" . -}}
{{- $ours := dict "app.kubernetes.io/component" "server" "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge (dict) .Values._release.selector $ours (default dict .Values.podLabels) (default dict .Values.commonLabels)) -}}
{{- end -}}

{{/* Labels of an object: `root`, and `extra` of its own. */}}
{{- define "onstage.labels" -}}
{{- $root := .root -}}
{{- include "onstage.remember" $root -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" -}}
{{- $ours := dict "app.kubernetes.io/component" "server" "app.kubernetes.io/managed-by" $root.Release.Service "app.kubernetes.io/version" $root.Chart.AppVersion "helm.sh/chart" $chart -}}
{{- toYaml (merge (dict) $root.Values._release.selector $ours (default dict .extra) (default dict $root.Values.commonLabels)) -}}
{{- end -}}

{{/* The metadata of an object: `root`, and where it has them `suffix` of its name, `labels` and `annotations`. */}}
{{- define "onstage.metadata" -}}
name: {{ printf "%s%s" (include "onstage.fullname" .root) (default "" .suffix) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "onstage.labels" (dict "root" .root "extra" .labels) | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
