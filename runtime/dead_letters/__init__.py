"""Dead letters over AMQP, for the operator's command and for the console. No other module reads their queues."""
