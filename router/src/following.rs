//! What becomes of Docker's containers, told to control.

use weave_docker::Inspected;
use weave_docker::events::{Census, ContainerEvent, Listener, Over};

use crate::attach::{Container, Endpoint};
use crate::request::{Request, Requester, Stopping};

/// Control, as the stream of events knows it.
#[derive(Debug)]
pub struct Following(pub Requester);

impl Listener for Following {
    async fn census(&self, census: Census) -> Result<Vec<String>, Over> {
        Ok(self.0.ask(|reply| Request::Containers { census, reply }).await?)
    }

    async fn found(&self, container: Inspected) -> Result<(), Over> {
        let known = container.endpoints.iter().map(|it| (Endpoint::new(&it.id), it.aliases.clone()));
        let (endpoints, container) = (known.collect(), Container::from(container));
        Ok(self.0.ask(|reply| Request::Called { container, endpoints, reply }).await?)
    }

    async fn happened(&self, id: String, event: ContainerEvent) -> Result<bool, Over> {
        Ok(self.0.ask(|reply| Request::Container { id, event, reply }).await?)
    }
}

impl From<Stopping> for Over {
    fn from(_: Stopping) -> Self {
        Self
    }
}
