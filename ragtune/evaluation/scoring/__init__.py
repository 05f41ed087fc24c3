"""What one answer is: correct, wrong or refused, how sure, and why. No language model needed."""
