//! What becomes of Docker's containers, told to control; and those attached again that it remembers.

use std::sync::Arc;

use tracing::{info, warn};
use weave_docker::Inspected;
use weave_docker::events::{Census, ContainerEvent, Listener, Over};

use crate::attach::{Container, Endpoint, Manual, Wanted};
use crate::request::{Request, Requester, Stopping};
use crate::starts::Starts;
use crate::status::titles;

/// Control, as the stream of events knows it.
#[derive(Debug)]
pub struct Following {
    pub requester: Requester,
    pub starts: Arc<Starts>,
}

impl Listener for Following {
    async fn census(&self, census: Census) -> Result<Vec<String>, Over> {
        Ok(self.requester.ask(|reply| Request::Containers { census, reply }).await?)
    }

    async fn found(&self, container: Inspected) -> Result<(), Over> {
        let known = container.endpoints.iter().map(|it| (Endpoint::new(&it.id), it.aliases.clone()));
        let (endpoints, container) = (known.collect(), Container::from(container));
        let found = container.clone();
        if let Some(manual) = self.requester.ask(|reply| Request::Found { container: found, endpoints, reply }).await? {
            // Addresses may have to be waited for, and further news not.
            tokio::spawn(attach(self.requester.clone(), Arc::clone(&self.starts), container, manual));
        }
        Ok(())
    }

    async fn happened(&self, id: String, event: ContainerEvent) -> Result<bool, Over> {
        Ok(self.requester.ask(|reply| Request::Container { id, event, reply }).await?)
    }
}

/// Attaches a container as it was before, by hand.
async fn attach(requester: Requester, starts: Arc<Starts>, container: Container, manual: Manual) {
    let (label, name) = (container.label.clone(), container.called.name.clone());
    let Manual { addresses, named, multicast_route } = manual;
    let (wanted, by_hand) = (addresses.into_iter().map(Wanted::This).collect(), true);
    let request = |ticket, reply| Request::Attach { ticket, container, wanted, named, multicast_route, by_hand, reply };
    match requester.commit(None, request).await {
        Ok(_) => info!(container = label, "attached as before"),
        Err(error) => {
            warn!(container = label, %error, "a container that was attached by hand is not attached again");
            starts.note_failure(&titles::container(&label, name.as_deref()), &error.to_string());
        }
    }
}

impl From<Stopping> for Over {
    fn from(_: Stopping) -> Self {
        Self
    }
}
