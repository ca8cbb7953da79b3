"""What a report is made of: runs, studies and published results, read, matched and scored."""
