{{/*
Refuses values that the schema cannot judge and that would fail later, or quietly do harm. All problems are told at once,
each with key, value, reason and way out.
*/}}
{{- define "celeriac.validate" -}}
{{- $problems := list -}}
{{- $release := .Release.Name -}}

{{- if gt (len $release) 40 -}}
{{- $problems = append $problems (printf "release name %q has %d characters, and 40 are the most: Kubernetes allows 52 for a StatefulSet and 63 for a Job, with what the chart adds. Choose a shorter one." $release (len $release)) -}}
{{- end -}}

{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $release) -}}
{{- $problems = append $problems (printf "release name %q cannot begin the name of a Service. Use lower-case letters, digits and -, a letter first." $release) -}}
{{- end -}}

{{- if not .Values.queues -}}
{{- $problems = append $problems "queues is empty: no worker would run, and every task would wait for ever. Name at least one queue, such as `queues: {default: {}}`." -}}
{{- end -}}
{{- range $queue := keys .Values.queues | sortAlpha -}}
{{- if not (regexMatch "^[a-z]([a-z0-9_]{0,38}[a-z0-9])?$" $queue) -}}
{{- $problems = append $problems (printf "queues.%s: %q cannot be a queue's name. Use lower-case letters, digits and _, a letter first and no _ last, at most 40 characters." $queue $queue) -}}
{{- else -}}
{{- $name := include "celeriac.worker.name" (list $ $queue) -}}
{{- if gt (len $name) 63 -}}
{{- $problems = append $problems (printf "queues.%s: its Deployment %q would have %d characters, and Kubernetes allows 63. Shorten the queue's name or the release's." $queue $name (len $name)) -}}
{{- end -}}
{{- end -}}
{{- $worker := deepCopy $.Values.workerDefaults -}}
{{- include "celeriac.merge" (list $worker (index $.Values.queues $queue)) -}}
{{- $grace := int $worker.terminationGracePeriodSeconds -}}
{{- if lt $grace 30 -}}
{{- $problems = append $problems (printf "queues.%s.terminationGracePeriodSeconds is %d: what a worker has not finished by then runs again elsewhere, and less than 30 leaves tasks hardly any time. Set 30 or more; 120 is the default." $queue $grace) -}}
{{- end -}}
{{- end -}}

{{- if gt (int .Values.beat.replicas) 1 -}}
{{- $problems = append $problems (printf "beat.replicas is %d: two Beats would each send every periodic task. Set 1, or 0 for no schedules." (int .Values.beat.replicas)) -}}
{{- end -}}

{{- range $key, $what := dict "redis" "redis://host:6379/0" "database" "postgresql://user:password@host/name" -}}
{{- $values := index $.Values $key -}}
{{- if and $values.url $values.existingSecret -}}
{{- $problems = append $problems (printf "%s.url and %s.existingSecret are both set, and only one can be used. Remove one of them." $key $key) -}}
{{- else if and $values.bundled $values.url -}}
{{- $problems = append $problems (printf "%s.url is set, but %s.bundled is true, so it would not be used. Set %s.bundled to false, or remove the URL." $key $key $key) -}}
{{- else if not (or $values.bundled $values.url $values.existingSecret) -}}
{{- $problems = append $problems (printf "%s.bundled is false, and nothing says what to use instead. Set %s.url (%s), or %s.existingSecret to a Secret with the key %s-url." $key $key $what $key $key) -}}
{{- end -}}
{{- end -}}

{{- if and .Values.redis.url (not (regexMatch "^rediss?([+]sentinel)?://" .Values.redis.url)) -}}
{{- $problems = append $problems "redis.url is none of redis://, rediss://, redis+sentinel:// and rediss+sentinel:// (its value is not shown, as it may hold a password): pods reach no other server. Use redis://host:6379/0 or redis+sentinel://host:26379/primary/0." -}}
{{- end -}}
{{- if hasPrefix "sqlite" .Values.database.url -}}
{{- $problems = append $problems "database.url is an SQLite URL: each pod would have a database of its own. Use postgresql://user:password@host/name, or database.bundled: true." -}}
{{- else if and .Values.database.url (not (hasPrefix "postgresql" .Values.database.url)) -}}
{{- $problems = append $problems "database.url is not postgresql:// (its value is not shown, as it may hold a password): no other database works. Use postgresql://user:password@host/name." -}}
{{- end -}}

{{- if and .Values.api.token .Values.api.existingSecret -}}
{{- $problems = append $problems "api.token and api.existingSecret are both set, and only one can be used. Remove one of them." -}}
{{- end -}}

{{- if not (or (eq .Values.fileStore.url "db:") (hasPrefix "s3://" .Values.fileStore.url)) -}}
{{- $problems = append $problems (printf "fileStore.url is %q: the worker that reads an upload may run on another node than the API that took it, so only a store that all pods reach works. Use db: or s3://bucket/prefix." .Values.fileStore.url) -}}
{{- end -}}

{{- $ours := dict "CELERIAC_API_TOKEN" "api.token" "CELERIAC_WORKLOADS" "workloads" "CELERIAC_QUEUES" "queues" "CELERIAC_TIMEZONE" "timezone" "CELERIAC_FILE_STORE" "fileStore.url" "CELERIAC_SCALING__ENABLED" "api.scaling.enabled" "CELERIAC_SCALING__MAX_REPLICAS" "api.scaling.maxReplicas" -}}
{{- $fixed := list "CELERIAC_API__HOST" "CELERIAC_API__PORT" "CELERIAC_PROBE__HOST" "CELERIAC_PROBE__PORT" "CELERIAC_DATA_DIR" "CELERIAC_KUBERNETES__RELEASE" -}}
{{- range $name := keys .Values.settings | sortAlpha -}}
{{- if hasKey $ours $name -}}
{{- $problems = append $problems (printf "settings.%s: the chart sets this variable from %s. Set that instead." $name (get $ours $name)) -}}
{{- else if has $name $fixed -}}
{{- $problems = append $problems (printf "settings.%s: probes, Services and volumes rely on what the chart sets. Remove it." $name) -}}
{{- else if regexMatch "(PASSWORD|SECRET|TOKEN|KEY)$" $name -}}
{{- $problems = append $problems (printf "settings.%s: a secret would stand in every Deployment for all to read. Put it into a Secret, and name that in extraEnv (valueFrom.secretKeyRef) or extraEnvFrom." $name) -}}
{{- end -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\nThese values cannot work:\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}
