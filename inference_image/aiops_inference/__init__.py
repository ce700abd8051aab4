"""The FastAPI server in every pod: predicts, counts drift, answers /drift."""
