//! configure
use crate::error::Result;
use sqlx::PgPool;
/// Seeds.
pub async fn seed(_pool: &PgPool) -> Result<()> {
    Ok(())
}
