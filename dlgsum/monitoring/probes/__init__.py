"""What is measured besides the loss: gradients by layer, throughput, memory."""
