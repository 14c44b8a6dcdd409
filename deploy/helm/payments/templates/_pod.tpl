{{/* The standard `restricted`. A platform that gives each namespace its own uids (OpenShift) refuses a fixed one. */}}
{{- define "payments.podSecurity" -}}
runAsNonRoot: true
{{- if ne (toString .Values.security.runAsUser) "platform" }}
runAsUser: {{ int .Values.security.runAsUser }}
runAsGroup: {{ int .Values.security.runAsUser }}
fsGroup: {{ int .Values.security.runAsUser }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "payments.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* One environment variable from a Secret: (list "STRIPE_API_KEY" .Values.secrets.stripe) */}}
{{- define "payments.secretVariable" -}}
{{- $secret := last . -}}
- name: {{ first . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.existingSecret }}
      key: {{ $secret.key }}
{{- end -}}

{{/* Settings in the order of their names. Numbers come from YAML as floats, of which no 1e+06 may be left. */}}
{{- define "payments.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ include "payments.text" $value | quote }}
{{- end }}
{{- end -}}

{{- define "payments.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "payments.serviceEnvironment" -}}
{{- include "payments.settings" (merge (dict "SERVICE_HOST" "0.0.0.0" "SERVICE_PORT" 8086) .Values.service.settings .Values.settings) | trim }}
{{ include "payments.secretVariable" (list "AMQP_URL" .Values.secrets.serviceBroker) }}
{{ include "payments.secretVariable" (list "DATABASE_URL" .Values.secrets.database) }}
{{- if .Values.secrets.databaseListen.existingSecret }}
{{ include "payments.secretVariable" (list "DATABASE_LISTEN_URL" .Values.secrets.databaseListen) }}
{{- end }}
{{ include "payments.secretVariable" (list "STRIPE_API_KEY" .Values.secrets.stripe) }}
{{- end -}}

{{/* With Eureka each bridge is found at its pod's own address, unless INSTANCE_HOST names another. */}}
{{- define "payments.bridgeEnvironment" -}}
{{- $own := dict "BRIDGE_HOST" "0.0.0.0" "BRIDGE_PORT" 8085 -}}
{{- with .Values.bridge.jwks }}{{ if .existingConfigMap }}{{ $_ := set $own "BRIDGE_JWT_JWKS" (printf "/etc/payments/jwks/%s" .key) }}{{ end }}{{ end -}}
{{- include "payments.settings" (merge $own .Values.bridge.settings .Values.settings) | trim }}
{{ include "payments.secretVariable" (list "AMQP_URL" .Values.secrets.bridgeBroker) }}
{{- if .Values.secrets.eureka.existingSecret }}
{{ include "payments.secretVariable" (list "EUREKA_URL" .Values.secrets.eureka) }}
{{- if not (hasKey .Values.bridge.settings "INSTANCE_HOST") }}
- name: INSTANCE_HOST
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
{{- end }}
{{- end -}}

{{/* It is told how people are known, and of the two secrets for that the one in use. */}}
{{- define "payments.consoleEnvironment" -}}
{{- include "payments.settings" (merge (dict "CONSOLE_HOST" "0.0.0.0" "CONSOLE_PORT" 8087) .Values.console.settings .Values.settings) | trim }}
{{ include "payments.secretVariable" (list "AMQP_URL" .Values.secrets.consoleBroker) }}
{{ include "payments.secretVariable" (list "DATABASE_URL" .Values.secrets.consoleDatabase) }}
{{- if eq .Values.console.settings.CONSOLE_AUTH "password" }}
{{ include "payments.secretVariable" (list "CONSOLE_USERS" .Values.secrets.consoleUsers) }}
{{- else }}
{{ include "payments.secretVariable" (list "CONSOLE_PROXY_SECRET" .Values.secrets.consoleProxySecret) }}
{{- end }}
{{- end -}}

{{- define "payments.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if or .Values.trust.existingSecret .Values.trust.existingConfigMap }}
- name: trust
  mountPath: /etc/payments/trust
  readOnly: true
{{- end }}
{{- end -}}

{{- define "payments.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.trust }}
{{- if .existingSecret }}
- name: trust
  secret:
    secretName: {{ .existingSecret }}
    items: [{key: {{ .key }}, path: {{ .key }}}]
{{- else if .existingConfigMap }}
- name: trust
  configMap:
    name: {{ .existingConfigMap }}
    items: [{key: {{ .key }}, path: {{ .key }}}]
{{- end }}
{{- end }}
{{- end -}}

{{/* Readiness asks broker and database and answers within 5 s; liveness asks nobody. */}}
{{- define "payments.probes" -}}
startupProbe:
  httpGet: {path: /actuator/health/liveness, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /actuator/health/liveness, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /actuator/health/readiness, port: http}
  periodSeconds: 10
  timeoutSeconds: 6
  failureThreshold: 3
{{- end -}}

{{/* Where the pods of a half may run: (dict "root" $ "half" "service") */}}
{{- define "payments.placement" -}}
{{- $values := index .root.Values .half -}}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- $labels := include "payments.selector" . -}}
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
