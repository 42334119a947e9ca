"""What is known of the whole pipeline, and how it is said: status, claims, the doctor's checks."""
