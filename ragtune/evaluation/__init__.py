"""What is right, by how much, and whether by luck."""
