data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  boundary  = "arn:${local.partition}:iam::${local.account}:policy/${var.name}-boundary" # made by bootstrap/
}
