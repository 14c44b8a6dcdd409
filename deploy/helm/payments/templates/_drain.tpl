{{/* How long the bridge serves after SIGTERM: as bridge/settings.py decides it. */}}
{{- define "payments.drainSeconds" -}}
{{- if hasKey .Values.bridge.settings "BRIDGE_DRAIN_SECONDS" -}}
{{- .Values.bridge.settings.BRIDGE_DRAIN_SECONDS -}}
{{- else -}}
{{- ternary 95 0 (ne .Values.secrets.eureka.existingSecret "") -}}
{{- end -}}
{{- end -}}

{{/* preStop, drain, the longest request, and 10 s to close: README.md, "Stopping". */}}
{{- define "payments.bridgeGraceSeconds" -}}
{{- $drain := include "payments.drainSeconds" . | float64 -}}
{{- $request := .Values.bridge.settings.BRIDGE_TIMEOUT_SECONDS | default 10 | float64 -}}
{{- addf .Values.bridge.preStopSeconds $drain $request 10 | ceil | int -}}
{{- end -}}
