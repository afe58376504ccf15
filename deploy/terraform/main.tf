# The guide's infrastructure (docs/guides/ecs.md) as a module: what deploy/ecs/setup.sh makes, with an image of
# deploy/packer and a secret that is there already.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  place = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
}

resource "aws_ecs_cluster" "demo" {
  name = "${var.name}-demo-cluster"
}

resource "aws_vpc" "demo" {
  cidr_block           = var.network
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = "${var.name}-demo-vpc" }
}

resource "aws_subnet" "demo" {
  vpc_id     = aws_vpc.demo.id
  cidr_block = var.network
  tags       = { Name = "${var.name}-demo-subnet" }
}

resource "aws_internet_gateway" "demo" {
  vpc_id = aws_vpc.demo.id
  tags   = { Name = "${var.name}-demo" }
}

resource "aws_default_route_table" "demo" {
  default_route_table_id = aws_vpc.demo.default_route_table_id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.demo.id
  }
}

resource "aws_security_group" "demo" {
  name        = "${var.name}-demo"
  description = "weave-rs demo"
  vpc_id      = aws_vpc.demo.id

  ingress {
    description = "the demo"
    protocol    = "tcp"
    from_port   = 80
    to_port     = 80
    cidr_blocks = ["0.0.0.0/0"]
  }

  ingress {
    description = "weave-rs: control"
    protocol    = "tcp"
    from_port   = 6783
    to_port     = 6783
    self        = true
  }

  ingress {
    description = "weave-rs: sleeve and fast path"
    protocol    = "udp"
    from_port   = 6783
    to_port     = 6784
    self        = true
  }

  dynamic "ingress" {
    for_each = var.ssh_from
    content {
      description = "SSH"
      protocol    = "tcp"
      from_port   = 22
      to_port     = 22
      cidr_blocks = [ingress.value]
    }
  }

  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_launch_template" "demo" {
  name                   = "${var.name}-launch-template"
  image_id               = var.image
  instance_type          = var.instance_type
  key_name               = var.key_name
  update_default_version = true

  iam_instance_profile {
    name = aws_iam_instance_profile.host.name
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    device_index                = 0
    associate_public_ip_address = true
    delete_on_termination       = true
    security_groups             = [aws_security_group.demo.id]
  }

  user_data = base64encode(<<-END
    #!/bin/bash
    install -d /etc/ecs /etc/weave-rs
    printf '%s\n' 'ECS_CLUSTER=${aws_ecs_cluster.demo.name}' 'ECS_IMAGE_PULL_BEHAVIOR=prefer-cached' >> /etc/ecs/ecs.config
    printf '%s\n' 'AWS_DEFAULT_REGION=${data.aws_region.current.name}' 'PASSWORD_PARAMETER=${var.secret_parameter}' > /etc/weave-rs/env
  END
  )
}

resource "aws_autoscaling_group" "demo" {
  name                = "${var.name}-demo-group"
  min_size            = var.size
  max_size            = var.size
  desired_capacity    = var.size
  vpc_zone_identifier = [aws_subnet.demo.id]

  launch_template {
    id      = aws_launch_template.demo.id
    version = aws_launch_template.demo.latest_version
  }

  tag {
    key                 = "Name"
    value               = "${var.name}-demo-group"
    propagate_at_launch = true
  }
}

resource "aws_ecs_task_definition" "demo" {
  family                = "${var.name}-demo-task"
  container_definitions = file("${path.module}/../ecs/data/containers.json")
}

resource "aws_ecs_service" "demo" {
  name            = "${var.name}-demo-service"
  cluster         = aws_ecs_cluster.demo.id
  task_definition = aws_ecs_task_definition.demo.arn
  desired_count   = var.size
}

output "cluster" {
  value = aws_ecs_cluster.demo.name
}

output "group" {
  value = aws_autoscaling_group.demo.name
}
