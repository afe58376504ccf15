//! The admin thread: HTTP, Docker and discovery on a runtime of their own, so that a slow report cannot delay a heartbeat.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::error;
use weave_docker::events;

use crate::api::{Context, Listeners};
use crate::following::Following;

/// Rendering a report needs little.
const STACK_BYTES: usize = 512 * 1024;

/// How long a stopping daemon goes on answering requests that it has taken.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Handle to the thread. It ends with [`Self::stop`] or when dropped.
#[derive(Debug)]
pub struct Admin {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn spawn(
        listeners: Listeners,
        context: Context,
        discovering: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let following = Following { requester: context.requester.clone(), starts: Arc::clone(&context.starts) };
        let watching = events::watch(context.docker.clone(), following);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(watching);
                tokio::spawn(discovering);
                let (ending, ended) = oneshot::channel();
                let stop = async move {
                    let _ = stopped.await;
                    let _ = ending.send(());
                };
                let patience = async move {
                    let _ = ended.await;
                    tokio::time::sleep(LAST_ANSWERS_TIMEOUT).await;
                };
                tokio::select! {
                    () = patience => {}
                    served = listeners.serve(context, stop) => {
                        if let Err(error) = served {
                            error!(%error, "the control API has ended; restart the daemon to get it back");
                        }
                    }
                }
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread; requests under way are answered, if that can be soon.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the admin thread panicked");
        }
    }
}
