{{/* What no schema can say: each problem a sentence, all of them at once. */}}
{{- define "payments.check" -}}
{{- $problems := list -}}
{{- $secrets := .Values.secrets -}}
{{- $bridge := .Values.bridge.settings -}}
{{- $needed := dict "stripe" "the service" "database" "the service and the migration" "serviceBroker" "the service" "bridgeBroker" "the bridge" -}}
{{- if and (eq .Values.service.autoscaling.mode "keda") (not .Values.service.autoscaling.triggerAuthentication) -}}
{{- $_ := set $needed "autoscaler" "KEDA" -}}
{{- end -}}
{{- if .Values.console.enabled -}}
{{- $_ := merge $needed (dict "consoleDatabase" "the console" "consoleBroker" "the console") -}}
{{- $people := get (dict "password" "consoleUsers" "proxy" "consoleProxySecret") (toString .Values.console.settings.CONSOLE_AUTH) -}}
{{- if $people -}}{{- $_ := set $needed $people "the console" -}}{{- end -}}
{{- end -}}
{{- range $use, $who := $needed -}}
{{- $secret := index $secrets $use -}}
{{- if not $secret.existingSecret -}}
{{- $problems = append $problems (printf "secrets.%s.existingSecret is not set: name the Secret in which %s finds %s" $use $who $secret.key) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.image.tag "latest" -}}
{{- $problems = append $problems "image.tag is latest, which changes its meaning: name a version, or pods of one release run two" -}}
{{- end -}}
{{- if not (hasKey $bridge "BRIDGE_AUTH") -}}
{{- $problems = append $problems "bridge.settings.BRIDGE_AUTH is not set: choose headers (whoever reaches the bridge may say who it is) or jwt (signed service tokens)" -}}
{{- end -}}
{{- if eq (toString $bridge.BRIDGE_AUTH) "jwt" -}}
{{- range $name := list "BRIDGE_JWT_ISSUER" "BRIDGE_JWT_AUDIENCE" -}}
{{- if not (hasKey $bridge $name) -}}
{{- $problems = append $problems (printf "bridge.settings.%s is not set: BRIDGE_AUTH=jwt needs it" $name) -}}
{{- end -}}
{{- end -}}
{{- if and (not (hasKey $bridge "BRIDGE_JWT_JWKS")) (not .Values.bridge.jwks.existingConfigMap) -}}
{{- $problems = append $problems "bridge.jwks.existingConfigMap and bridge.settings.BRIDGE_JWT_JWKS are not set: BRIDGE_AUTH=jwt needs keys, from one of them" -}}
{{- end -}}
{{- if and (hasPrefix "https:" (toString $bridge.BRIDGE_JWT_JWKS)) .Values.networkPolicy.enabled (not .Values.networkPolicy.jwks.ports) -}}
{{- $problems = append $problems "networkPolicy.jwks.ports is empty: the bridge could not read its keys from BRIDGE_JWT_JWKS" -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $bridge "BRIDGE_JWT_JWKS") .Values.bridge.jwks.existingConfigMap -}}
{{- $problems = append $problems "bridge.jwks.existingConfigMap and bridge.settings.BRIDGE_JWT_JWKS are both set: choose one" -}}
{{- end -}}
{{- if and .Values.trust.existingSecret .Values.trust.existingConfigMap -}}
{{- $problems = append $problems "trust.existingSecret and trust.existingConfigMap are both set: choose one" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.platform) -}}
{{- $problems = append $problems "networkPolicy.platform is empty: nobody could call the bridge, or, with monitoring empty too, everybody" -}}
{{- end -}}
{{- range $place := list "database" "broker" "eureka" "jwks" -}}
{{- $rule := index $.Values.networkPolicy $place -}}
{{- if and $.Values.networkPolicy.enabled (not $rule.to) (has "443" (toStrings $rule.ports)) -}}
{{- $problems = append $problems (printf "networkPolicy.%s.to is empty, and its ports have 443: name the peers, or others than the service could reach Stripe" $place) -}}
{{- end -}}
{{- end -}}
{{- range $half := list "service" "bridge" -}}
{{- $values := index $.Values $half -}}
{{- $scaling := $values.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $problems = append $problems (printf "%s.autoscaling.minReplicas is larger than maxReplicas" $half) -}}
{{- end -}}
{{- if and (eq $scaling.mode "cpu") (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- $problems = append $problems (printf "%s.resources.requests.cpu is not set: %s.autoscaling.mode=cpu is a share of it" $half $half) -}}
{{- end -}}
{{- end -}}
{{- if .Values.console.enabled -}}
{{- $problems = concat $problems (include "payments.consoleProblems" . | fromJsonArray) -}}
{{- end -}}
{{- $problems = concat $problems (include "payments.missingSecrets" . | fromJsonArray) -}}
{{- if $problems -}}
{{- fail (printf "\n\nThe values cannot be used:\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}

{{/* What is wrong with the console's own values, as a JSON list of sentences. */}}
{{- define "payments.consoleProblems" -}}
{{- $problems := list -}}
{{- $auth := toString .Values.console.settings.CONSOLE_AUTH -}}
{{- if not (hasKey .Values.console.settings "CONSOLE_AUTH") -}}
{{- $problems = append $problems "console.settings.CONSOLE_AUTH is not set: choose password (people of secrets.consoleUsers log in) or proxy (an identity proxy in front says who it is)" -}}
{{- end -}}
{{- if and (gt (int .Values.console.replicas) 1) (ne $auth "proxy") -}}
{{- $problems = append $problems "console.replicas is larger than 1: who has logged in is known to one process alone, unless CONSOLE_AUTH is proxy" -}}
{{- end -}}
{{- if and (eq $auth "proxy") .Values.networkPolicy.enabled (not .Values.networkPolicy.console) -}}
{{- $problems = append $problems "networkPolicy.console is empty: the proxy of CONSOLE_AUTH=proxy could not reach the console" -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{/*
Secrets and ConfigMaps that are named and not there, as a JSON list of sentences: a pod that lacks one only waits. Only
`helm install` and `helm upgrade` can see that; `helm template` sees no cluster. Secrets need no right that Helm does not
need for its own records; a ConfigMap is asked for only where values name one.
*/}}
{{- define "payments.missingSecrets" -}}
{{- $problems := list -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace "" -}}
{{- if hasKey $found "items" -}}
{{- $secrets := dict -}}
{{- range $found.items -}}{{- $_ := set $secrets .metadata.name (.data | default dict) -}}{{- end -}}
{{- $named := list (list "trust.existingSecret" "Secret" .Values.trust.existingSecret .Values.trust.key) -}}
{{- $named = append $named (list "trust.existingConfigMap" "ConfigMap" .Values.trust.existingConfigMap .Values.trust.key) -}}
{{- $named = append $named (list "bridge.jwks.existingConfigMap" "ConfigMap" .Values.bridge.jwks.existingConfigMap .Values.bridge.jwks.key) -}}
{{- range $use, $secret := .Values.secrets -}}
{{- $named = append $named (list (printf "secrets.%s" $use) "Secret" $secret.existingSecret $secret.key) -}}
{{- end -}}
{{- range .Values.image.pullSecrets -}}
{{- $named = append $named (list "image.pullSecrets" "Secret" . "") -}}
{{- end -}}
{{- range $named -}}
{{- $use := index . 0 -}}{{- $kind := index . 1 -}}{{- $name := index . 2 -}}{{- $key := index . 3 -}}
{{- if and $name (eq $kind "ConfigMap") -}}
{{- with lookup "v1" "ConfigMap" $.Release.Namespace $name -}}{{- $_ := set $secrets (printf "ConfigMap %s" $name) (merge (dict) (.data | default dict) (.binaryData | default dict)) -}}{{- end -}}
{{- end -}}
{{- $stored := ternary $name (printf "ConfigMap %s" $name) (eq $kind "Secret") -}}
{{- if and $name (not (hasKey $secrets $stored)) -}}
{{- $problems = append $problems (printf "%s: there is no %s %s in the namespace %s" $use $kind $name $.Release.Namespace) -}}
{{- else if and $name $key (not (hasKey (index $secrets $stored) $key)) -}}
{{- $problems = append $problems (printf "%s: the %s %s has no key %s" $use $kind $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
