import type { Config } from '../config.ts'

/** The settings that the HTTP edge goes by. */
export type ServerConfig = Pick<
  Config,
  | 'host'
  | 'port'
  | 'heartbeatMs'
  | 'maxBufferedBytes'
  | 'stallMs'
  | 'apiToken'
  | 'allowedHosts'
  | 'allowedOrigins'
  | 'trustProxy'
  | 'maxStreamsPerClient'
  | 'rateLimitPerMinute'
>
