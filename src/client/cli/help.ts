export const HELP = `Usage:
  ./api-client.ts [--stream] "PROMPT"          run the task "agent" and show its work; - reads the prompt from stdin
  ./api-client.ts --task NAME [--input JSON]   run any other task
  ./api-client.ts list                         the newest jobs
  ./api-client.ts show ID                      one job, as JSON
  ./api-client.ts attach ID [--hold]           everything a job said, then what it says; --hold keeps it alive
  ./api-client.ts cancel ID                    end a job now: model calls closed, processes killed
  ./api-client.ts stop ID                      end a job at its next boundary
  ./api-client.ts tasks                        what the server can run

Options:
  --stream              what follows is a prompt, also where it is a word such as "list" (streaming is the default)
  --json                one event a line (list, tasks: one row a line)
  --children            with --json: the events of child jobs too, as they come; each event says whose it is
  --quiet               only the result; of an agent, its text
  --verbose             all that tools print, as it comes, and what each came to
  --reasoning           what a model thinks before it speaks, on stderr
  --on-interrupt WHAT   what the first Ctrl+C does: cancel (default), stop, or detach (the job runs on)
  --grace-ms N          a start: how long the job goes on without us where the connection is lost, milliseconds (default 0: it is
                        cancelled as soon as the server sees that)
  --lease-ms N          a start: say to the server three times in N milliseconds that we are still there, for where a proxy hides
                        that we are gone (default 0: the connection alone tells)
  --server URL          default: TETHER_URL, else http://127.0.0.1:3000
  --token TOKEN         default: TETHER_TOKEN (others on this machine can see an argument, not the variable)
  -h, --help            this text

The job's text goes to stdout; its stderr and what the client says itself go to stderr. On a terminal, colours are kept and
all other control sequences are taken out.

Of a tool there is one line on stderr: what it did, how it ended, how long it took. On a terminal it is shown while it runs, with
the end of what it prints, of which the last lines remain; elsewhere a tool that takes longer than 2 s is announced. What child
jobs (sub-agents) say and do stands on stderr under a label: [2.1] is the first child of the second. In the end one line says what
models and tools were used, children included. NO_COLOR=1 turns our colours off, TERM=dumb also whatever moves.

A connection that is lost is made again: it is tried for as long as the job's grace, 10 s at least, and the output goes on where
it was. Lines on stderr tell of both. After Ctrl+C it is not: then the answer to the cancel tells the outcome, and the cancel
itself is sent again until the server has it.

Ctrl+C once cancels the job, waits for its end and prints what was released; twice leaves at once, and the server ends the job
when it sees that nobody holds it, after its grace. SIGTERM is as Ctrl+C. A broken pipe (| head) is leaving. Where attach has no
--hold, Ctrl+C only ends the looking, unless --on-interrupt says otherwise.

Exit codes:
  0    succeeded; or the command was done
  1    failed, timed out, abandoned or interrupted; a request was refused; or the connection was lost for good before the job's
       outcome came (the job may have run: show ID tells)
  2    wrong usage, also: an unknown task, an input that the task does not take
  69   no server there: nothing was started
  130  cancelled or stopped, or left before an outcome came
`
