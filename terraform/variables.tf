variable "name" {
  description = "What every resource is named after. The roles of bootstrap/ may only touch resources of this name."
  type        = string
  default     = "aiops-quality"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name has to be 2 to 31 lower-case letters, digits and hyphens, and to begin with a letter."
  }
}

variable "region" {
  description = "AWS region of everything here, such as eu-central-1."
  type        = string
}

variable "repository" {
  description = "GitHub repository whose workflows may start a retraining, as OWNER/NAME."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository has to be OWNER/NAME."
  }
}

variable "vpc_id" {
  description = "VPC in which training runs."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in which training runs. They need a way out to ECR, S3 and CloudWatch Logs: a NAT gateway or VPC endpoints."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids needs at least one subnet."
  }
}

variable "training_image_tag" {
  description = "Tag of the training image in the repository that training_repository_url names. Tags are immutable there."
  type        = string
  default     = "v1"
}

variable "training_command" {
  description = "Command of the training container. It finds SERVICE, DATA, REASON, EXECUTION and ARTIFACTS (s3://BUCKET/PREFIX) in its environment; another exit code than 0 means that no model was published."
  type        = list(string)
  default     = []
}

variable "training_size" {
  description = "Virtual CPUs and memory (MiB) of the training container; a pair that Fargate offers."
  type = object({
    vcpu   = number
    memory = number
  })
  default = {
    vcpu   = 1
    memory = 4096
  }
}

variable "log_retention_days" {
  description = "Days for which logs of training and of the state machine are kept."
  type        = number
  default     = 365
}
