output "state_machine_arn" {
  description = "The variable STATE_MACHINE_ARN of the GitHub environment training."
  value       = aws_sfn_state_machine.retraining.arn
}

output "train_role_arn" {
  description = "The variable AWS_ROLE_ARN of the GitHub environment training."
  value       = aws_iam_role.train.arn
}

output "artifacts_bucket" {
  description = "Where training reads its rows (data/) and writes models (models/)."
  value       = aws_s3_bucket.artifacts.bucket
}

output "training_repository_url" {
  description = "Where the training image is pushed to."
  value       = aws_ecr_repository.images["training"].repository_url
}

output "artifacts_repository_url" {
  description = "Where training pushes images of artifacts to."
  value       = aws_ecr_repository.images["artifacts"].repository_url
}
