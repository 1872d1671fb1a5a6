#!/bin/sh
# Replaces core-common-config-bootstrapper: writes into Consul the part of EdgeX's common configuration that app-offload needs, and registers
# core-metadata, which app-offload never calls but whose address it waits for at its start.
consul=http://edgex-core-consul:8500/v1
until [ -n "$(curl -fs $consul/status/leader | tr -d '"')" ]; do sleep 0.2; done
put() { curl -fs -o /dev/null -X PUT -d "$2" "$consul/kv/edgex/v3/core-common-config-bootstrapper/$1"; }
put all-services/Writable/InsecureSecrets/DB/SecretName redisdb
put all-services/Writable/InsecureSecrets/DB/SecretData/username ""
put all-services/Writable/InsecureSecrets/DB/SecretData/password ""
put all-services/Writable/Telemetry/Interval 30s
put all-services/Service/HealthCheckInterval 10s
put all-services/Service/RequestTimeout 5s
put all-services/Registry/Host edgex-core-consul
put all-services/Registry/Port 8500
put all-services/Registry/Type consul
put all-services/MessageBus/Type redis
put all-services/MessageBus/Protocol redis
put all-services/MessageBus/Host edgex-redis
put all-services/MessageBus/Port 6379
put all-services/MessageBus/AuthMode usernamepassword
put all-services/MessageBus/SecretName redisdb
put all-services/MessageBus/BaseTopicPrefix edgex
put app-services/Trigger/Type edgex-messagebus
put app-services/Trigger/SubscribeTopics "events/#"
put device-services/MaxEventSize 0
curl -fs -o /dev/null -X PUT -d '{"Name":"core-metadata","Address":"edgex-core-metadata","Port":59881}' $consul/agent/service/register
put IsCommonConfigReady true
