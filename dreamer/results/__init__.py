"""What a run leaves behind for people: scores, learning curves and videos."""
