# The state machine that train-model.yml starts.
resource "aws_sfn_state_machine" "retraining" {
  name     = "${var.name}-retraining"
  type     = "STANDARD"
  role_arn = aws_iam_role.retraining.arn

  definition = templatefile("${path.module}/retraining.asl.json", {
    partition      = local.partition
    job_queue      = aws_batch_job_queue.training.arn
    job_definition = aws_batch_job_definition.training.arn
  })

  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.retraining.arn}:*"
    include_execution_data = true
    level                  = "ALL"
  }

  tracing_configuration {
    enabled = true
  }

  depends_on = [aws_iam_role_policy.retraining] # Step Functions tries the role when the machine is made
}

resource "aws_cloudwatch_log_group" "retraining" {
  name              = "/aws/vendedlogs/states/${var.name}-retraining"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "retraining" {
  name                 = "${var.name}-retraining"
  assume_role_policy   = data.aws_iam_policy_document.retraining_trust.json
  permissions_boundary = local.boundary
}

data "aws_iam_policy_document" "retraining_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role_policy" "retraining" {
  name   = "retraining"
  role   = aws_iam_role.retraining.id
  policy = data.aws_iam_policy_document.retraining.json
}

data "aws_iam_policy_document" "retraining" {
  statement {
    sid       = "SubmitTraining"
    actions   = ["batch:SubmitJob", "batch:TagResource"]
    resources = [aws_batch_job_queue.training.arn, aws_batch_job_definition.training.arn]
  }

  statement {
    sid       = "EndTraining"
    actions   = ["batch:TerminateJob"]
    resources = ["arn:${local.partition}:batch:${var.region}:${local.account}:job/*"] # a job's id is not known before
  }

  statement {
    sid       = "LookAtTraining"
    actions   = ["batch:DescribeJobs"]
    resources = ["*"] # this action knows no resources
  }

  # Step Functions learns of a job's end by a rule that it keeps for itself.
  statement {
    sid       = "HearOfTheEnd"
    actions   = ["events:DescribeRule", "events:PutRule", "events:PutTargets"]
    resources = ["arn:${local.partition}:events:${var.region}:${local.account}:rule/StepFunctionsGetEventsForBatchJobsRule"]
  }

  statement {
    sid = "WriteLog"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"] # these actions know no resources
  }

  statement {
    sid       = "WriteTraces"
    actions   = ["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"] # these actions know no resources
  }
}
