"""What is shown beside the report: learning curves while runs go on, and films of agents."""
