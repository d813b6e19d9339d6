/**
 * What takes a trace from one process to another: names and values, as the propagator of the OpenTelemetry SDK in use writes
 * them (`traceparent` and `tracestate` of W3C Trace Context, where it is not set otherwise).
 */
export type TraceCarrier = Readonly<Record<string, string>>
