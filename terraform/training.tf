# One Batch job on Fargate trains, evaluates and publishes; nothing runs, and nothing costs, in between.
resource "aws_security_group" "training" {
  name        = "${var.name}-training"
  description = "Training: nothing comes in; out only to AWS over TLS."
  vpc_id      = var.vpc_id

  egress {
    description = "ECR, S3, CloudWatch Logs"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_batch_compute_environment" "training" {
  name = "${var.name}-training"
  type = "MANAGED"

  compute_resources {
    type               = "FARGATE"
    max_vcpus          = 4 * ceil(var.training_size.vcpu) # at most four retrainings at a time
    subnets            = var.subnet_ids
    security_group_ids = [aws_security_group.training.id]
  }
}

resource "aws_batch_job_queue" "training" {
  name     = "${var.name}-training"
  state    = "ENABLED"
  priority = 1

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.training.arn
  }
}

resource "aws_cloudwatch_log_group" "training" {
  name              = "/${var.name}/training"
  retention_in_days = var.log_retention_days
}

resource "aws_batch_job_definition" "training" {
  name                  = "${var.name}-training"
  type                  = "container"
  platform_capabilities = ["FARGATE"]
  propagate_tags        = true

  container_properties = jsonencode({
    image            = "${aws_ecr_repository.images["training"].repository_url}:${var.training_image_tag}"
    command          = var.training_command
    executionRoleArn = aws_iam_role.training["start"].arn
    jobRoleArn       = aws_iam_role.training["job"].arn
    environment = [
      { name = "ARTIFACTS", value = "s3://${aws_s3_bucket.artifacts.bucket}/models" },
      { name = "ARTIFACTS_REPOSITORY", value = aws_ecr_repository.images["artifacts"].repository_url },
    ]
    resourceRequirements = [
      { type = "VCPU", value = tostring(var.training_size.vcpu) },
      { type = "MEMORY", value = tostring(var.training_size.memory) },
    ]
    networkConfiguration = { assignPublicIp = "DISABLED" }
    logConfiguration = {
      logDriver = "awslogs"
      options   = { "awslogs-group" = aws_cloudwatch_log_group.training.name }
    }
  })

  # A job is tried again where its machine was lost, and never where training said no.
  retry_strategy {
    attempts = 3

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*"
    }

    evaluate_on_exit {
      action    = "EXIT"
      on_reason = "*"
    }
  }

  timeout {
    attempt_duration_seconds = 7200
  }
}

# "start" pulls the image and opens the log; "job" is what the training code itself may do.
resource "aws_iam_role" "training" {
  for_each = toset(["start", "job"])

  name                 = "${var.name}-training-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.training_trust.json
  permissions_boundary = local.boundary
}

data "aws_iam_policy_document" "training_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role_policy" "training_start" {
  name   = "start"
  role   = aws_iam_role.training["start"].id
  policy = data.aws_iam_policy_document.training_start.json
}

data "aws_iam_policy_document" "training_start" {
  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # this action knows no resources
  }

  statement {
    sid       = "PullTrainingImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.images["training"].arn]
  }

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.training.arn}:*"]
  }
}

resource "aws_iam_role_policy" "training_job" {
  name   = "job"
  role   = aws_iam_role.training["job"].id
  policy = data.aws_iam_policy_document.training_job.json
}

data "aws_iam_policy_document" "training_job" {
  statement {
    sid       = "ReadRows"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.artifacts.arn}/data/*", "${aws_s3_bucket.artifacts.arn}/models/*"]
  }

  statement {
    sid       = "WriteModels"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.artifacts.arn}/models/*"]
  }

  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # this action knows no resources
  }

  statement {
    sid = "PushArtifacts"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.images["artifacts"].arn]
  }
}
