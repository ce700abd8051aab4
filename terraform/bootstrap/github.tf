# GitHub proves which repository and environment a job belongs to; no key of AWS is kept there.
resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

# reset.yml and destroy.yml take this role, in the protected environment "infrastructure" alone.
resource "aws_iam_role" "infrastructure" {
  name                 = "${var.name}-github-infrastructure"
  description          = "Reset and Destroy in ${var.repository}"
  assume_role_policy   = data.aws_iam_policy_document.infrastructure_trust.json
  max_session_duration = 3600
}

data "aws_iam_policy_document" "infrastructure_trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${var.repository}:environment:infrastructure"]
    }
  }
}

# The most that a role of the main configuration can ever do, whatever its own policy says.
resource "aws_iam_policy" "boundary" {
  name   = "${var.name}-boundary"
  policy = data.aws_iam_policy_document.boundary.json
}

data "aws_iam_policy_document" "boundary" {
  statement {
    sid = "Training"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = ["arn:${local.partition}:s3:::${var.name}-artifacts-${local.account}/*"]
  }

  statement {
    sid = "Images"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = ["arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.name}/*"]
  }

  statement {
    sid = "Retraining"
    actions = [
      "batch:SubmitJob",
      "batch:TagResource",
      "batch:TerminateJob",
      "states:DescribeExecution",
      "states:GetExecutionHistory",
      "states:StartExecution",
    ]
    resources = [
      "arn:${local.partition}:batch:${var.region}:${local.account}:job-queue/${var.name}-*",
      "arn:${local.partition}:batch:${var.region}:${local.account}:job-definition/${var.name}-*",
      "arn:${local.partition}:batch:${var.region}:${local.account}:job/*", # a job's id is not known before
      "arn:${local.partition}:states:${var.region}:${local.account}:stateMachine:${var.name}-*",
      "arn:${local.partition}:states:${var.region}:${local.account}:execution:${var.name}-*:*",
    ]
  }

  statement {
    sid       = "EndOfJobs"
    actions   = ["events:DescribeRule", "events:PutRule", "events:PutTargets"]
    resources = ["arn:${local.partition}:events:${var.region}:${local.account}:rule/StepFunctionsGetEventsForBatchJobsRule"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:GetLogEvents", "logs:PutLogEvents"]
    resources = ["arn:${local.partition}:logs:${var.region}:${local.account}:log-group:/${var.name}/*"]
  }

  statement {
    sid = "WithoutResources"
    actions = [
      "batch:DescribeJobs",
      "ecr:GetAuthorizationToken",
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
      "xray:GetSamplingRules",
      "xray:GetSamplingTargets",
      "xray:PutTelemetryRecords",
      "xray:PutTraceSegments",
    ]
    resources = ["*"] # these actions know no resources
  }
}
