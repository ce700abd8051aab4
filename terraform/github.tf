# The role that train-model.yml takes: it starts the one state machine and looks at its executions and at the log of their jobs.
data "aws_iam_openid_connect_provider" "github" {
  url = "https://token.actions.githubusercontent.com" # made by bootstrap/
}

resource "aws_iam_role" "train" {
  name                 = "${var.name}-github-train"
  description          = "Train Model in ${var.repository}"
  assume_role_policy   = data.aws_iam_policy_document.train_trust.json
  max_session_duration = 10800 # a retraining is followed for two hours at most
  permissions_boundary = local.boundary
}

data "aws_iam_policy_document" "train_trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [data.aws_iam_openid_connect_provider.github.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${var.repository}:environment:training"]
    }
  }
}

resource "aws_iam_role_policy" "train" {
  name   = "train"
  role   = aws_iam_role.train.id
  policy = data.aws_iam_policy_document.train.json
}

data "aws_iam_policy_document" "train" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.retraining.arn]
  }

  statement {
    sid       = "Follow"
    actions   = ["states:DescribeExecution", "states:GetExecutionHistory"]
    resources = ["arn:${local.partition}:states:${var.region}:${local.account}:execution:${aws_sfn_state_machine.retraining.name}:*"]
  }

  statement {
    sid       = "ReadWhyAJobFailed"
    actions   = ["logs:GetLogEvents"]
    resources = ["${aws_cloudwatch_log_group.training.arn}:*"]
  }
}
