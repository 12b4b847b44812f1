//! A step that removes or restores something is made again if it fails: what it leaves would stay.

/// Makes a step a second time if it fails.
pub async fn again<T, E>(mut step: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
    match step().await {
        Ok(done) => Ok(done),
        Err(_) => step().await,
    }
}
