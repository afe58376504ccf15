variable "name" {
  type        = string
  description = "What all names begin with"
  default     = "weave-ecs"
}

variable "image" {
  type        = string
  description = "An image made by deploy/packer"
}

variable "secret_parameter" {
  type        = string
  description = "The SSM parameter (SecureString) that holds the secret of the mesh. It is made outside, so that it is not in Terraform's state"
  default     = "/weave-ecs/password"
}

variable "instance_type" {
  type    = string
  default = "t3.micro"
}

variable "size" {
  type        = number
  description = "Hosts, and tasks"
  default     = 3
}

variable "network" {
  type    = string
  default = "172.31.0.0/24"
}

variable "ssh_from" {
  type        = list(string)
  description = "Networks that may reach the hosts by SSH"
  default     = []
}

variable "key_name" {
  type        = string
  description = "A key pair for SSH"
  default     = null
}
