"""What a report says, a module for each of its sections."""
