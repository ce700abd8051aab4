"""The commands that the workflows call: start a retraining on AWS and follow it."""
