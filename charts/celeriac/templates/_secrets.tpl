{{/*
Where secrets are, and how generated ones survive upgrades: what the live Secret holds is used again. `helm template`
and tools that render with it see no cluster, so they would generate anew at every run: give them existingSecret.
*/}}

{{- define "celeriac.api.secretName" -}}
{{- .Values.api.existingSecret | default (include "celeriac.name" (list . "api")) -}}
{{- end -}}

{{/*
The Secret of an external server has a name of its own, so that the password of a volume that was retained is not
overwritten by a stay at an external one.
*/}}
{{- define "celeriac.redis.secretName" -}}
{{- .Values.redis.existingSecret | default (include "celeriac.name" (list . (ternary "redis" "redis-url" .Values.redis.bundled))) -}}
{{- end -}}

{{- define "celeriac.database.secretName" -}}
{{- .Values.database.existingSecret | default (include "celeriac.name" (list . (ternary "postgresql" "database-url" .Values.database.bundled))) -}}
{{- end -}}

{{/* A generated value, in plain: that of the live Secret, else a new one. Arguments: root, Secret, key. */}}
{{- define "celeriac.generated" -}}
{{- $live := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $value := get ($live.data | default dict) (index . 2) -}}
{{- if $value -}}
{{- b64dec $value -}}
{{- else -}}
{{- randAlphaNum 40 -}}
{{- end -}}
{{- end -}}

{{/*
What a pod is annotated with so that it restarts when a given secret changes; nothing where all are generated, as those do
not change. A plain digest would let readers of pods guess a weak password offline; scrypt makes each guess costly (and
this function take a fifth of a second). Arguments: root, list of secrets.
*/}}
{{- define "celeriac.checksum" -}}
{{- with compact (index . 1) -}}
{{- derivePassword 1 "maximum" (join "\n" .) (index $ 0).Release.Name "secrets" | sha256sum -}}
{{- end -}}
{{- end -}}
