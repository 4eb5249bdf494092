/*
 * parking_private.h - what parking.c and parking_ask.c share. Nobody else includes it.
 * The loop's thread only.
 */
#ifndef VAC_SERVER_PARKING_PRIVATE_H
#define VAC_SERVER_PARKING_PRIVATE_H

#include "server/state.h"

/* parking_ask.c */

/* Asks who is on the GPUs; vac_parking_looked() follows, even at once. */
void vac_parking_ask(struct vac_server *server);
/* Parks or resumes one; vac_parking_parked() or _resumed() follows, even at once. */
void vac_parking_hold(struct vac_server *server, struct vac_parked *parked,
		      enum vac_wire_hold_operation operation);

/* parking.c */

/* survey: NULL when nothing can be seen. */
void vac_parking_looked(struct vac_server *server, const struct vac_survey *survey);
/* why->code VAC_OK: it is done. Takes parked. */
void vac_parking_parked(struct vac_server *server, struct vac_parked *parked,
			const struct vac_error *why);
void vac_parking_resumed(struct vac_server *server, struct vac_parked *parked,
			 const struct vac_error *why);

/* parking_model.c */

/* A worker of this server's. Takes parked. */
void vac_parking_moved(struct vac_server *server, struct vac_parked *parked,
		       const struct vac_error *why);
/* Begins with the next of the queue, if nothing is under way. */
void vac_parking_next(struct vac_server *server);

#endif
