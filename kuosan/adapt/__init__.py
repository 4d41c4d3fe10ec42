"""What is made of a trained model: learned control sequences."""
