"""What a user gives, read with limits and checked before it is used; and errors that say what is wrong with it."""
