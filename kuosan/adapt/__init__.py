"""What is made of a trained model: learned control sequences, and students that need few steps."""
