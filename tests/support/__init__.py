"""What the tests share: processes to be read, texts, captures, commands, a second reader."""
