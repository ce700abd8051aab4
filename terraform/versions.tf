terraform {
  required_version = ">= 1.10" # the state's lock is an object in S3

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # Bucket and region come from `tofu init -backend-config`; README.md has the command.
  backend "s3" {
    key          = "aiops-quality/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
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
