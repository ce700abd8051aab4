# What has to be there before the workflows can run, and what `destroy` must never remove: applied once, by a person.
terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      project = var.name
    }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}

variable "name" {
  description = "What every resource is named after; the same as in the main configuration."
  type        = string
  default     = "aiops-quality"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name has to be 2 to 31 lower-case letters, digits and hyphens, and to begin with a letter."
  }
}

variable "region" {
  description = "AWS region, such as eu-central-1; the same as in the main configuration."
  type        = string
}

variable "repository" {
  description = "GitHub repository whose workflows may change the infrastructure, as OWNER/NAME."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository has to be OWNER/NAME."
  }
}

output "state_bucket" {
  description = "The variable TF_STATE_BUCKET of the GitHub environment infrastructure."
  value       = aws_s3_bucket.state.bucket
}

output "infrastructure_role_arn" {
  description = "The variable AWS_ROLE_ARN of the GitHub environment infrastructure."
  value       = aws_iam_role.infrastructure.arn
}
