# Images of Amazon's ECS-optimised Amazon Linux 2023 with weave-rs on them, for both architectures.
#
#   make ecs-archive            (on a machine of that architecture)
#   packer init deploy/packer && packer build -only='*.x86_64' -var archive=target/weave-rs-ecs.tar.gz deploy/packer
#
# Then `WEAVE_ECS_IMAGE=ami-… deploy/ecs/setup.sh`. There is no secret in an image: the daemon reads it when it starts.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-west-1"
}

variable "archive" {
  type        = string
  description = "What `make ecs-archive` made, of the same architecture as the image"
}

variable "name" {
  type    = string
  default = "weave-rs-ecs"
}

locals {
  parameters = "/aws/service/ecs/optimized-ami/amazon-linux-2023"
  stamp      = formatdate("YYYYMMDDhhmmss", timestamp())
}

data "amazon-parameterstore" "x86_64" {
  region = var.region
  name   = "${local.parameters}/recommended/image_id"
}

data "amazon-parameterstore" "arm64" {
  region = var.region
  name   = "${local.parameters}/arm64/recommended/image_id"
}

source "amazon-ebs" "host" {
  region       = var.region
  ssh_username = "ec2-user"
  imds_support = "v2.0"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

build {
  source "amazon-ebs.host" {
    name          = "x86_64"
    ami_name      = "${var.name}-x86_64-${local.stamp}"
    instance_type = "t3.micro"
    source_ami    = data.amazon-parameterstore.x86_64.value
  }

  source "amazon-ebs.host" {
    name          = "arm64"
    ami_name      = "${var.name}-arm64-${local.stamp}"
    instance_type = "t4g.micro"
    source_ami    = data.amazon-parameterstore.arm64.value
  }

  provisioner "file" {
    source      = var.archive
    destination = "/tmp/weave-rs-ecs.tar.gz"
  }

  # The agent has joined no cluster yet; what it has written would make all hosts of this image look like one.
  provisioner "shell" {
    inline = [
      "set -e",
      "mkdir /tmp/weave-rs && tar -C /tmp/weave-rs -xzf /tmp/weave-rs-ecs.tar.gz",
      "sudo /tmp/weave-rs/provision.sh",
      "sudo systemctl stop ecs",
      "sudo rm -rf /var/lib/ecs/data /tmp/weave-rs /tmp/weave-rs-ecs.tar.gz",
      "sudo cloud-init clean --logs",
    ]
  }
}
