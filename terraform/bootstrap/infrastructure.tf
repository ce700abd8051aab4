# What `tofu apply` and `tofu destroy` of the main configuration need, on resources of its name alone.
resource "aws_iam_role_policy" "infrastructure" {
  for_each = {
    state    = data.aws_iam_policy_document.state_access.json
    roles    = data.aws_iam_policy_document.roles.json
    services = data.aws_iam_policy_document.services.json
  }

  name   = each.key
  role   = aws_iam_role.infrastructure.id
  policy = each.value
}

data "aws_iam_policy_document" "state_access" {
  statement {
    sid       = "FindState"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn]
  }

  statement {
    sid       = "State"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/${var.name}/terraform.tfstate"]
  }

  statement {
    sid       = "Lock"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/${var.name}/terraform.tfstate.tflock"]
  }
}

# Roles can be made only under the boundary, so that this role cannot make one that may do more than it says.
data "aws_iam_policy_document" "roles" {
  statement {
    sid       = "MakeRolesUnderTheBoundary"
    actions   = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"]
    resources = local.roles

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }
  }

  statement {
    sid = "KeepRoles"
    actions = [
      "iam:DeleteRole",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
    ]
    resources = local.roles
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = local.roles

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com", "states.amazonaws.com"]
    }
  }

  # The first compute environment of an account brings Batch's own role with it.
  statement {
    sid       = "BatchsOwnRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["batch.amazonaws.com"]
    }
  }

  statement {
    sid       = "FindGitHub"
    actions   = ["iam:GetOpenIDConnectProvider"]
    resources = [aws_iam_openid_connect_provider.github.arn]
  }

  statement {
    sid       = "ListProviders"
    actions   = ["iam:ListOpenIDConnectProviders"]
    resources = ["*"] # this action knows no resources
  }
}

locals {
  # Not the infrastructure role itself, nor any other that bootstrap makes.
  roles = [
    for suffix in ["training-start", "training-job", "retraining", "github-train"] :
    "arn:${local.partition}:iam::${local.account}:role/${var.name}-${suffix}"
  ]
}

data "aws_iam_policy_document" "services" {
  statement {
    sid = "Bucket"
    actions = [
      "s3:CreateBucket",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:GetAccelerateConfiguration",
      "s3:GetBucketAcl",
      "s3:GetBucketCORS",
      "s3:GetBucketLogging",
      "s3:GetBucketObjectLockConfiguration",
      "s3:GetBucketOwnershipControls",
      "s3:GetBucketPolicy",
      "s3:GetBucketPublicAccessBlock",
      "s3:GetBucketRequestPayment",
      "s3:GetBucketTagging",
      "s3:GetBucketVersioning",
      "s3:GetBucketWebsite",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging",
      "s3:PutBucketVersioning",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = ["arn:${local.partition}:s3:::${var.name}-artifacts-${local.account}"]
  }

  statement {
    sid = "Registry"
    actions = [
      "ecr:CreateRepository",
      "ecr:DeleteLifecyclePolicy",
      "ecr:DeleteRepository",
      "ecr:DescribeRepositories",
      "ecr:GetLifecyclePolicy",
      "ecr:ListTagsForResource",
      "ecr:PutImageScanningConfiguration",
      "ecr:PutImageTagMutability",
      "ecr:PutLifecyclePolicy",
      "ecr:TagResource",
      "ecr:UntagResource",
    ]
    resources = ["arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.name}/*"]
  }

  # ECR encrypts with AWS's key for it, of which it takes a grant when a repository is made.
  statement {
    sid       = "RegistryKey"
    actions   = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"]
    resources = ["arn:${local.partition}:kms:${var.region}:${local.account}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["ecr.${var.region}.amazonaws.com"]
    }
  }

  statement {
    sid = "Batch"
    actions = [
      "batch:CreateComputeEnvironment",
      "batch:CreateJobQueue",
      "batch:DeleteComputeEnvironment",
      "batch:DeleteJobQueue",
      "batch:DeregisterJobDefinition",
      "batch:RegisterJobDefinition",
      "batch:TagResource",
      "batch:UntagResource",
      "batch:UpdateComputeEnvironment",
      "batch:UpdateJobQueue",
    ]
    resources = [
      for kind in ["compute-environment", "job-definition", "job-queue"] :
      "arn:${local.partition}:batch:${var.region}:${local.account}:${kind}/${var.name}-*"
    ]
  }

  statement {
    sid = "StateMachine"
    actions = [
      "states:CreateStateMachine",
      "states:DeleteStateMachine",
      "states:DescribeStateMachine",
      "states:ListStateMachineVersions",
      "states:ListTagsForResource",
      "states:TagResource",
      "states:UntagResource",
      "states:UpdateStateMachine",
    ]
    resources = ["arn:${local.partition}:states:${var.region}:${local.account}:stateMachine:${var.name}-*"]
  }

  statement {
    sid = "LogGroups"
    actions = [
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:DeleteRetentionPolicy",
      "logs:ListTagsForResource",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
      "logs:UntagResource",
    ]
    resources = [
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:/${var.name}/*",
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:/aws/vendedlogs/states/${var.name}-*",
    ]
  }

  # A security group has no name in its ARN: it is made with the project's tag, and changed only where it has it.
  statement {
    sid     = "MakeSecurityGroup"
    actions = ["ec2:CreateSecurityGroup", "ec2:CreateTags"]
    resources = [
      "arn:${local.partition}:ec2:${var.region}:${local.account}:security-group/*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/project"
      values   = [var.name]
    }
  }

  statement {
    sid       = "MakeSecurityGroupInVpc"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = ["arn:${local.partition}:ec2:${var.region}:${local.account}:vpc/*"]
  }

  statement {
    sid = "KeepSecurityGroup"
    actions = [
      "ec2:AuthorizeSecurityGroupEgress",
      "ec2:DeleteSecurityGroup",
      "ec2:RevokeSecurityGroupEgress",
    ]
    resources = ["arn:${local.partition}:ec2:${var.region}:${local.account}:security-group/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/project"
      values   = [var.name]
    }
  }

  statement {
    sid = "Look"
    actions = [
      "batch:DescribeComputeEnvironments",
      "batch:DescribeJobDefinitions",
      "batch:DescribeJobQueues",
      "batch:ListTagsForResource",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSecurityGroupRules",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSubnets",
      "ec2:DescribeVpcs",
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
      "states:ListStateMachines",
      "states:ValidateStateMachineDefinition",
    ]
    resources = ["*"] # these actions know no resources
  }
}
