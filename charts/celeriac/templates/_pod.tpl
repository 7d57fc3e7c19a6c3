{{/* What pods have in common. */}}

{{/* Arguments: root, component, and optionally a map over the component's image. Gives image and imagePullPolicy. */}}
{{- define "celeriac.image" -}}
{{- $root := index . 0 -}}
{{- $image := deepCopy (index $root.Values.images (index . 1)) -}}
{{- if gt (len .) 2 }}{{ include "celeriac.merge" (list $image (index . 2)) }}{{ end -}}
image: {{ printf "%s:%v" $image.repository ($image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}

{{/*
Puts one map over another, in place and key by key; sprig's mergeOverwrite takes 0, false and "" for "not given".
Arguments: the map to change (a copy of yours), the map to put over it.
*/}}
{{- define "celeriac.merge" -}}
{{- $into := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $into $key)) -}}
{{- include "celeriac.merge" (list (get $into $key) $value) -}}
{{- else -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The replicas of a Deployment. null leaves the field out. But Helm 3 removes a field that the last manifest had and this
one has not, and Kubernetes then resets it to 1; so the live number is written where there is one.
Arguments: root, Deployment, replicas.
*/}}
{{- define "celeriac.replicas" -}}
{{- if not (kindIs "invalid" (index . 2)) -}}
replicas: {{ int (index . 2) }}
{{- else -}}
{{- with lookup "apps/v1" "Deployment" (index . 0).Release.Namespace (index . 1) -}}
replicas: {{ int .spec.replicas }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pod fields that every pod has. Arguments: root, user and group id. */}}
{{- define "celeriac.pod" -}}
{{- $root := index . 0 -}}
{{- /* Without tokens of the cluster's API, and without the variables of all Services in the namespace. */ -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 1 }}
  runAsGroup: {{ index . 1 }}
  fsGroup: {{ index . 1 }}
  {{- /* Always would walk the volume at each start, and loosen the modes that PostgreSQL insists on. */}}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
What `automountServiceAccountToken` would mount into every container of the pod, to be mounted into one: the token, renewed
before it ends after an hour, the cluster's authority, and the namespace.
*/}}
{{- define "celeriac.accountVolume" -}}
name: account
projected:
  sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap:
        name: kube-root-ca.crt
        items:
          - {key: ca.crt, path: ca.crt}
    - downwardAPI:
        items:
          - path: namespace
            fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}
{{- end -}}

{{- define "celeriac.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Where a pod may run. Argument: the values of its component. */}}
{{- define "celeriac.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
The environment of a container of our own images. A name is rendered once, as server-side apply refuses doubles; the
component's own wins over extraEnv, which wins over settings.
Arguments: root, component, and for workers the queue's `env`.
*/}}
{{- define "celeriac.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $env := dict
  "HOME" (dict "value" "/tmp")
  "CELERIAC_DATA_DIR" (dict "value" "/tmp/celeriac")
  "CELERIAC_TIMEZONE" (dict "value" $root.Values.timezone)
  "CELERIAC_QUEUES" (dict "value" (keys $root.Values.queues | sortAlpha | join ","))
  "DATABASE_URL" (include "celeriac.fromSecret" (list (include "celeriac.database.secretName" $root) "database-url") | fromYaml)
-}}
{{- with $root.Values.workloads }}
{{- $_ := set $env "CELERIAC_WORKLOADS" (dict "value" (join "," .)) }}
{{- end }}
{{- if ne $component "migrate" }}
{{- $_ := set $env "REDIS_URL" (include "celeriac.fromSecret" (list (include "celeriac.redis.secretName" $root) "redis-url") | fromYaml) }}
{{- end }}
{{- if has $component (list "api" "worker") }}
{{- $store := $root.Values.fileStore }}
{{- $_ := set $env "CELERIAC_FILE_STORE" (dict "value" $store.url) }}
{{- with $store.existingSecret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
{{- $_ := set $env . (include "celeriac.fromSecret" (list $store.existingSecret .) | fromYaml) }}
{{- end }}
{{- end }}
{{- with $store.endpoint }}
{{- $_ := set $env "AWS_ENDPOINT_URL" (dict "value" .) }}
{{- end }}
{{- with $store.region }}
{{- $_ := set $env "AWS_REGION" (dict "value" .) }}
{{- end }}
{{- end }}
{{- if eq $component "api" }}
{{- $_ := set $env "CELERIAC_API__HOST" (dict "value" "0.0.0.0") }}
{{- $_ := set $env "CELERIAC_API__PORT" (dict "value" "8000") }}
{{- $_ := set $env "CELERIAC_API_TOKEN" (include "celeriac.fromSecret" (list (include "celeriac.api.secretName" $root) "token") | fromYaml) }}
{{- $_ := set $env "CELERIAC_KUBERNETES__RELEASE" (dict "value" $root.Release.Name) }}
{{- $_ := set $env "CELERIAC_SCALING__ENABLED" (dict "value" (toString $root.Values.api.scaling.enabled)) }}
{{- $_ := set $env "CELERIAC_SCALING__MAX_REPLICAS" (dict "value" (int $root.Values.api.scaling.maxReplicas | toString)) }}
{{- else if ne $component "migrate" }}
{{- $_ := set $env "CELERIAC_PROBE__HOST" (dict "value" "0.0.0.0") }}
{{- $_ := set $env "CELERIAC_PROBE__PORT" (dict "value" "8001") }}
{{- end }}
{{- range $name, $value := $root.Values.settings }}
{{- $_ := set $env $name (dict "value" $value) }}
{{- end }}
{{- $own := dict }}
{{- if gt (len .) 2 }}{{ $own = index . 2 }}{{ end }}
{{- $further := list }}
{{- range $root.Values.extraEnv }}
{{- if not (hasKey $own .name) }}
{{- $_ := unset $env .name }}
{{- $further = append $further . }}
{{- end }}
{{- end }}
{{- range $name, $value := $own }}
{{- $_ := set $env $name (dict "value" $value) }}
{{- end -}}
env:
{{- range $name, $source := $env }}
  - name: {{ $name }}
    {{- toYaml $source | nindent 4 }}
{{- end }}
{{- with $further }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Arguments: Secret, key. */}}
{{- define "celeriac.fromSecret" -}}
valueFrom:
  secretKeyRef:
    name: {{ index . 0 | quote }}
    key: {{ index . 1 }}
{{- end -}}

{{/*
Waits until the migration Job has brought the database to this image's models. So nothing starts too early, with and
without --wait; a hook would wait for a database that is not there yet (pre-install) or for pods that wait for it
(post-install). Arguments: root, component, resources, and a map which for workers has the queue's `image` and `env`.
*/}}
{{- define "celeriac.waitForMigration" -}}
- name: wait-for-migration
  {{- include "celeriac.image" (list (index . 0) (index . 1) (get (index . 3) "image" | default dict)) | nindent 2 }}
  args: [migrate, --wait, --timeout, "300"]
  {{- include "celeriac.env" (list (index . 0) "migrate" (get (index . 3) "env" | default dict)) | nindent 2 }}
  {{- include "celeriac.containerSecurity" . | nindent 2 }}
  {{- with index . 2 }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- with (index . 0).Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The probes of workers and Beat, answered by their probe server. */}}
{{- define "celeriac.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 24 # 2 minutes (24 * 5 s) to start
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
# 2 minutes (6 * 20 s) without an answer: a restart costs running tasks, so it comes late.
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/*
The annotations of a pod, with their key; nothing where there are none. Arguments: root, and a list of the given secrets
that the pod must be restarted for ("" for a generated one).
*/}}
{{- define "celeriac.podAnnotations" -}}
{{- $annotations := deepCopy (index . 0).Values.podAnnotations -}}
{{- with include "celeriac.checksum" . -}}
{{- $_ := set $annotations "checksum/secrets" . -}}
{{- end -}}
{{- with $annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
