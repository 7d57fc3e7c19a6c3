{{/*
Names and labels. The names are a contract: <release>-api, <release>-worker-<queue>, … They are never cut, so that they
can be guessed; what would be too long is refused by _validate.tpl.
*/}}

{{/* Arguments: root, component. */}}
{{- define "celeriac.name" -}}
{{- printf "%s-%s" (index . 0).Release.Name (index . 1) -}}
{{- end -}}

{{/* Arguments: root, queue. */}}
{{- define "celeriac.worker.name" -}}
{{- include "celeriac.name" (list (index . 0) (printf "worker-%s" (index . 1 | replace "_" "-"))) -}}
{{- end -}}

{{/*
What selectors are made of: it must stay the same for the life of the release, as selectors cannot be changed.
Arguments: root, component, and for workers the queue.
*/}}
{{- define "celeriac.selectorLabels" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- if gt (len .) 2 }}
celeriac/queue: {{ index . 2 | quote }}
{{- end }}
{{- end -}}

{{/* Labels of an object; arguments as for the selector. */}}
{{- define "celeriac.labels" -}}
{{- $root := index . 0 -}}
{{ include "celeriac.selectorLabels" . }}
app.kubernetes.io/version: {{ include "celeriac.version" . | quote }}
app.kubernetes.io/part-of: celeriac
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* Labels of a pod: nothing that changes with a version of the chart alone, which would restart the databases. */}}
{{- define "celeriac.podLabels" -}}
{{- $own := include "celeriac.selectorLabels" . | fromYaml -}}
{{- toYaml (merge $own (deepCopy (index . 0).Values.podLabels)) -}}
{{- end -}}

{{/* The version of a component, as a label: its image's tag without digest. Arguments: root, component. */}}
{{- define "celeriac.version" -}}
{{- $root := index . 0 -}}
{{- $image := get $root.Values.images (ternary "api" (index . 1) (has (index . 1) (list "migrate" "test"))) -}}
{{- $tag := toString ($image.tag | default $root.Chart.AppVersion) | splitList "@" | first -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]" $tag "_" | trunc 63 | trimAll "_.-" -}}
{{- end -}}
