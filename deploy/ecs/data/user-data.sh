#!/bin/bash
# What a host is told at its first boot. There is no secret in it: whoever may describe the instance can read this.
install -d /etc/ecs /etc/weave-rs
cat >> /etc/ecs/ecs.config << 'END'
ECS_CLUSTER=@cluster@
ECS_IMAGE_PULL_BEHAVIOR=prefer-cached
END
cat > /etc/weave-rs/env << 'END'
AWS_DEFAULT_REGION=@region@
PASSWORD_PARAMETER=@secret@
END
