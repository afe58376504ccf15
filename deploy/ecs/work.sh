# shellcheck shell=bash
# What runs on the hosts: cluster, task definition, service. Verbs as in network.sh.
# shellcheck disable=SC2016 # The back quotes are those of the CLI's queries.

find_cluster() {
  call ecs describe-clusters --clusters "$cluster" --query 'clusters[?status==`ACTIVE`].clusterName'
}

create_cluster() {
  call ecs create-cluster --cluster-name "$cluster" --tags "key=$tag_key,value=$name" > /dev/null
}

remove_cluster() {
  each find_cluster remove_active_cluster
}

remove_active_cluster() {
  each container_instances call ecs deregister-container-instance --cluster "$1" --force --container-instance > /dev/null
  persist 'ClusterContains|UpdateInProgress' ecs delete-cluster --cluster "$1" > /dev/null
}

container_instances() {
  call ecs list-container-instances --cluster "$cluster" --query containerInstanceArns
}

# How many hosts are in the cluster, and why; nothing when all are.
missing_hosts() {
  local there
  there=$(call ecs describe-clusters --clusters "$cluster" --query 'clusters[].registeredContainerInstancesCount')
  ((there >= WEAVE_ECS_SIZE)) || echo "$there of $WEAVE_ECS_SIZE; $(last_activity)"
}

# What the group says of its last instance, such as a limit that was reached.
last_activity() {
  call autoscaling describe-scaling-activities --auto-scaling-group-name "$group" --max-items 1 \
    --query 'Activities[].[StatusCode, StatusMessage || Description]' | tr '\n\t' '  '
}

find_task() {
  call ecs list-task-definitions --family-prefix "$task" --status ACTIVE --query taskDefinitionArns
}

create_task() {
  call ecs register-task-definition --family "$task" --container-definitions "$(render data/containers.json)" > /dev/null
}

remove_task() {
  each find_task call ecs deregister-task-definition --task-definition > /dev/null
  each inactive_tasks call ecs delete-task-definitions --task-definitions > /dev/null
}

inactive_tasks() {
  call ecs list-task-definitions --family-prefix "$task" --status INACTIVE --query taskDefinitionArns
}

find_service() {
  describe_service 'services[?status==`ACTIVE`].serviceName'
}

describe_service() {
  unless ClusterNotFoundException ecs describe-services --cluster "$cluster" --services "$service" --query "$1"
}

create_service() {
  wait_until "the former service still drains" draining_service
  call ecs create-service --cluster "$cluster" --service-name "$service" --task-definition "$task" \
    --desired-count "$WEAVE_ECS_SIZE" > /dev/null
}

draining_service() {
  describe_service 'services[?status==`DRAINING`].serviceName'
}

remove_service() {
  each find_service call ecs delete-service --cluster "$cluster" --force --service > /dev/null
  wait_until "the service still drains" draining_service
}

# How many tasks run, and why; nothing when all do.
missing_tasks() {
  local running
  running=$(describe_service 'services[].runningCount')
  ((running >= WEAVE_ECS_SIZE)) || echo "$running of $WEAVE_ECS_SIZE; $(describe_service 'services[].events[0].message')"
}
